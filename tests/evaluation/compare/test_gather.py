import csv
import json

import numpy as np
import pytest

from medseg.errors import InputError, UsageError
from medseg.evaluation.compare.comparison_files import to_record, write_comparison
from medseg.evaluation.compare.gather import explain_comparison, gather
from medseg.evaluation.runs import find_runs
from tests.evaluation.run_folders import GOOD, POOR, TRUE, make_run, mask


def folded(folder, masks_of_fold, **facts):
    for index, (case, array) in enumerate(masks_of_fold.items(), start=1):
        make_run(
            folder / f"fold{index}",
            {case: array},
            {case: TRUE[case]},
            fold=f"fold {index} of 2",
            part="validation",
            **facts,
        )


def test_folds_are_one_row_with_the_spread_of_their_means(tmp_path):
    folded(tmp_path / "good", GOOD)
    comparison = gather([tmp_path])
    (row,) = comparison.rows
    dice = row.of("ball").metrics["dice"]
    assert (comparison.part, comparison.folds, comparison.cases, row.folds) == ("validation", 2, 2, 2)
    assert dice.fold_mean == pytest.approx((1 + 6 / 7) / 2)
    assert dice.fold_sd == pytest.approx(np.std([1, 6 / 7], ddof=1))
    assert dice.pooled == pytest.approx(10 / 11)


def test_a_row_without_one_of_its_folds_is_left_out_and_told(tmp_path):
    folded(tmp_path / "good", GOOD)
    folded(tmp_path / "poor", POOR, network="vnet")
    (tmp_path / "poor" / "fold2" / "scores_validation" / "scored.json").unlink()
    comparison = gather([tmp_path])
    assert [row.name for row in comparison.rows] == ["good"]
    assert [(failure.case, failure.code) for failure in comparison.failures] == [("poor", "RUN_UNSCORED")]
    assert comparison.exit_code == 1
    assert "RUN_UNSCORED" in comparison.to_text()


def test_the_tests_say_which_row_is_better_by_how_much(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    make_run(tmp_path / "poor", POOR, TRUE)
    comparison = gather([tmp_path])
    first = comparison.tests[0]
    assert (first.measure, first.first, first.second, first.n) == ("foreground mean", "good", "poor", 2)
    assert first.median_difference > 0
    assert [test.measure for test in comparison.tests] == ["foreground mean", "ball", "stick"]
    assert {row.name: row.rank for row in comparison.rows} == {"good": 1.0, "poor": 2.0}


def test_cases_of_one_patient_count_once(tmp_path):
    names = ("patient001_frame01", "patient001_frame12", "patient002_frame01")
    true = dict.fromkeys(names, mask(1, 1, 2))
    found = dict(zip(names, (mask(1, 1, 2), mask(1, 1, 2), mask(1, 0, 2)), strict=True))
    make_run(tmp_path / "one", true, true)
    make_run(tmp_path / "two", found, true)
    comparison = gather([tmp_path])
    assert (comparison.cases, comparison.units) == (3, 2)
    assert {test.n for test in comparison.tests} == {2}


def test_the_patients_that_a_run_knows_count_more_than_those_in_the_names(tmp_path):
    make_run(tmp_path / "one", GOOD, TRUE)
    path = tmp_path / "one" / "scores_test" / "scored.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "groups": {"a": "anna", "b": "anna"}}))
    assert gather([tmp_path]).units == 1


def test_patients_are_named_only_where_several_cases_are_of_one(tmp_path):
    names = ("patient001_frame01", "patient001_frame12", "patient002_frame01")
    for run in ("one", "two"):
        make_run(tmp_path / "frames" / run, dict.fromkeys(names, mask(1, 2)), dict.fromkeys(names, mask(1, 2)))
        make_run(tmp_path / "images" / run, GOOD, TRUE)
    frames, images = gather([tmp_path / "frames"]), gather([tmp_path / "images"])
    assert "3 cases of 2 patients" in frames.to_text()
    assert any("patient" in sentence for sentence in frames.policy)
    assert "2 cases\n" in images.to_text()
    assert "patient" not in images.to_text()
    assert not any("patient" in sentence for sentence in images.policy)
    assert [to_record(found)["patients"] for found in (frames, images)] == [2, None]


def test_finding_nothing_where_nothing_is_beats_finding_something(tmp_path):
    true = {"a": mask(1, 1), "b": mask(1, 1)}
    make_run(tmp_path / "right", {"a": mask(1, 1), "b": mask(1, 1)}, true)
    make_run(tmp_path / "wrong", {"a": mask(1, 1, 2), "b": mask(1, 1)}, true)
    comparison = gather([tmp_path])
    right, wrong = comparison.rows
    assert (right.of("stick").empty, wrong.of("stick").empty) == (2, 1)
    (stick,) = (test for test in comparison.tests if test.measure == "stick")
    assert (stick.n, stick.median_difference) == (1, 1.0)
    assert right.rank < wrong.rank


def test_rows_scored_on_other_cases_are_refused(tmp_path):
    make_run(tmp_path / "one", GOOD, TRUE)
    make_run(tmp_path / "two", {"a": GOOD["a"]}, {"a": TRUE["a"]})
    with pytest.raises(UsageError, match="CASES_DIFFER.*b"):
        gather([tmp_path])


def test_rows_of_other_classes_are_refused(tmp_path):
    make_run(tmp_path / "one", GOOD, TRUE)
    make_run(tmp_path / "two", GOOD, TRUE, labels={0: "background", 1: "ball", 2: "tail"})
    with pytest.raises(UsageError, match="CLASSES_DIFFER"):
        gather([tmp_path])


def test_what_else_differs_between_rows_is_a_column(tmp_path):
    make_run(tmp_path / "one", GOOD, TRUE, learning_rate=0.1, seed=5)
    make_run(tmp_path / "two", GOOD, TRUE, **{"network_options::filters": 64, "seed": 5})
    rows = gather([tmp_path]).rows
    assert rows[0].varied == {"learning_rate": "0.1", "network_options::filters": "16"}
    assert rows[1].varied == {"learning_rate": "", "network_options::filters": "64"}
    assert "filters-64" in rows[1].parts


def test_runs_of_one_name_in_two_folders_are_two_rows(tmp_path):
    make_run(tmp_path / "here" / "unet", GOOD, TRUE)
    make_run(tmp_path / "there" / "unet", POOR, TRUE)
    names = [row.name for row in gather([tmp_path / "here" / "unet", tmp_path / "there" / "unet"]).rows]
    assert names == ["here/unet", "there/unet"]


def test_a_place_without_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="RUN_NOT_FOUND"):
        gather([tmp_path])


def test_runs_that_are_all_unscored_are_refused(tmp_path):
    make_run(tmp_path / "one", GOOD, TRUE)
    with pytest.raises(InputError, match="RUN_UNSCORED"):
        gather([tmp_path], "validation")


def test_the_files_hold_one_line_per_row_and_class_and_no_nan_in_json(tmp_path):
    make_run(tmp_path / "runs" / "one", GOOD, TRUE, loss="focal")
    make_run(tmp_path / "runs" / "two", POOR, TRUE)
    write_comparison(gather([tmp_path / "runs"]), tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    classes = ["background", "ball", "stick", "foreground mean", "all classes"]
    assert [(line["row"], line["class"]) for line in lines] == [
        (row, name) for row in ("one", "two") for name in classes
    ]
    assert (lines[1]["loss"], lines[1]["dice_sd"], lines[1]["dice_fold_sd"]) == ("focal", "0.101015", "nan")
    content = json.loads((tmp_path / "out" / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert content["rows"][0]["classes"][1]["metrics"]["dice"]["fold_sd"] is None
    assert len(content["tests"]) == 3


def test_the_page_has_the_curves_inside_and_escapes_names(tmp_path):
    make_run(tmp_path / "runs" / "one", GOOD, TRUE, loss="<b>")
    write_comparison(gather([tmp_path / "runs"]), tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "data:image/png" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "http://" not in page and "https://" not in page


def test_scores_of_other_weights_do_not_count(tmp_path):
    for name in ("good", "poor", "bare"):
        make_run(tmp_path / name, GOOD, TRUE)
    (tmp_path / "poor" / "models" / "model.pt").write_bytes(b"trained further")
    (tmp_path / "bare" / "models" / "model.pt").unlink()
    comparison = gather([tmp_path])
    assert [row.name for row in comparison.rows] == ["good"]
    unscored = [(failure.case, failure.code) for failure in comparison.failures]
    assert unscored == [("bare", "RUN_UNSCORED"), ("poor", "RUN_UNSCORED")]


def test_a_row_without_scores_is_told_with_the_command_that_scores_it(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    lacking, data = make_run(tmp_path / "poor", POOR, TRUE), "some where/data"
    (lacking / "scores_test" / "scored.json").unlink()
    (lacking / "run.json").write_text(json.dumps({**json.loads((lacking / "run.json").read_text()), "data": data}))
    comparison = gather([tmp_path])
    command = f"medseg compare {lacking} --data 'some where/data'"
    assert comparison.failures[0].remedy.endswith(command)
    assert to_record(comparison)["left_out"][0]["remedy"].endswith(command)
    words = " ".join(comparison.to_text().split())
    assert command in words
    with pytest.raises(InputError) as caught:
        gather([lacking], "validation")
    assert caught.value.remedy.endswith(f"{command} --part validation")


def test_a_row_without_weights_is_not_told_to_be_scored(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    (make_run(tmp_path / "poor", POOR, TRUE) / "models" / "model.pt").unlink()
    assert "--data" not in gather([tmp_path]).failures[0].remedy


def test_runs_are_sorted_by_the_numbers_in_their_names(tmp_path):
    for name in ("run10", "run9", "²"):
        make_run(tmp_path / name, GOOD, TRUE)
    assert list(find_runs([tmp_path])) == ["run9", "run10", "²"]


def test_a_comparison_says_what_its_tests_count_and_what_folds_and_validation_mean():
    plain = explain_comparison("case", "test", has_folds=False)
    assert any("each case counts once" in sentence for sentence in plain)
    assert not any("folds share" in sentence for sentence in plain)
    folded = explain_comparison("patient", "validation", has_folds=True)
    assert any("cases of one patient are averaged first" in sentence for sentence in folded)
    assert folded[-2].startswith("The folds share training cases") and folded[-1].startswith("The validation part")
    assert not any("{" in sentence for sentence in (*plain, *folded))
