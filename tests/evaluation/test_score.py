"""Slices as cases, empty truth apart, the background as a class, renamed values: what the studies report."""

import csv
import json
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from medseg import cli
from medseg.errors import DatasetError, UsageError
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.metrics import METRICS, tabulate
from medseg.evaluation.results import read_cases
from medseg.evaluation.score import add_background, find_names, number_names, rename_values, split_ignored
from medseg.evaluation.summaries import EMPTY_TRUTH, EVERY_CLASS
from medseg.options import EvaluateOptions


def save(array, path, spacing=(1.0, 2.0, 3.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.uint8), np.diag([*spacing, 1.0])), path)


def volume(*slices):
    """(4, 3, Z): in slice z the first rows hold the values listed there."""
    array = np.zeros((4, 3, len(slices)), np.uint8)
    for index, values in enumerate(slices):
        for row, value in enumerate(values):
            array[row, :, index] = value
    return array


@pytest.fixture
def stack(tmp_path):
    """Slices: found exactly, half found, truly empty, empty with 3 voxels invented, missed."""
    save(volume([1, 1], [1, 1], [], [], [1]), tmp_path / "references" / "a.nii.gz")
    save(volume([1, 1], [1], [], [1], []), tmp_path / "masks" / "a.nii.gz")
    return tmp_path / "masks", tmp_path / "references"


def summary_of(evaluation, value=1, part="all", name=None):
    found = (s for s in evaluation.summaries if s.part == part and s.value == value)
    return next(s for s in found if name is None or s.name == name)


def test_every_slice_is_a_case_and_empty_truth_is_apart(stack):
    evaluation = evaluate(*stack, options=EvaluateOptions(slices=2))
    rows = {row.case: row for row in evaluation.rows if row.value == 1}
    assert {case: row.status for case, row in rows.items()} == {
        "a#000": "scored",
        "a#001": "scored",
        "a#002": EMPTY_TRUTH,
        "a#003": EMPTY_TRUTH,
        "a#004": "scored",
    }
    assert [rows[f"a#00{index}"].scores["dice"] for index in (0, 1, 4)] == pytest.approx([1, 2 / 3, 0])
    assert all(math.isnan(rows["a#003"].scores[name]) for name in METRICS)
    assert rows["a#003"].scores["prediction_ml"] == pytest.approx(3 * 6 / 1000)
    summary = summary_of(evaluation)
    assert (summary.cases, summary.metrics["dice"].n) == (5, 3)
    assert summary.metrics["dice"].mean == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert (summary.empty_truth, summary.empty, summary.false_positive_voxels) == (2, 1, 3)
    assert summary.metrics["dice"].pooled == pytest.approx(2 * 9 / (2 * 9 + 3 + 3))
    assert evaluation.exit_code == 0


def test_empty_truth_of_the_foreground_is_a_slice_without_any_class(tmp_path):
    save(volume([1], [2], [], []), tmp_path / "references" / "a.nii.gz")
    save(volume([1], [1], [2], []), tmp_path / "masks" / "a.nii.gz")
    evaluation = evaluate(
        tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(slices=2, labels={1: "x", 2: "y"})
    )
    counts = {
        value: (s.empty_truth, s.empty, s.false_positive_voxels)
        for value, s in ((value, summary_of(evaluation, value)) for value in (1, 2, None))
    }
    assert counts == {1: (3, 2, 3), 2: (3, 2, 3), None: (2, 1, 3)}
    assert summary_of(evaluation, 1).metrics["dice"].mean == 1


@pytest.mark.parametrize(("axis", "cases"), [(0, 4), (1, 3), (2, 5)])
def test_slices_lie_along_the_axis_asked_for(stack, axis, cases):
    assert len({row.case for row in evaluate(*stack, options=EvaluateOptions(slices=axis)).rows}) == cases


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (2, 3, 4, 3), elements=st.integers(0, 2)), st.sampled_from([0, 1, 2]))
def test_the_slices_voxels_are_those_of_the_volume(tmp_path_factory, masks, axis):
    folder = tmp_path_factory.mktemp("any")
    for name, array in zip(("masks", "references"), masks, strict=True):
        save(array, folder / name / "a.nii.gz")
    labels = {1: "x", 2: "y"}
    whole = evaluate(folder / "masks", folder / "references", options=EvaluateOptions(labels=labels), progress=False)
    slices = evaluate(
        folder / "masks", folder / "references", options=EvaluateOptions(labels=labels, slices=axis), progress=False
    )
    np.testing.assert_array_equal(sum(slices.confusions.values()), whole.confusions["a"])
    for value in (1, 2):
        wanted = [
            2 * np.sum((p == value) & (r == value)) / (np.sum(p == value) + np.sum(r == value))
            for p, r in zip(*(np.moveaxis(mask, axis, 0) for mask in masks), strict=True)
            if (r == value).any()
        ]
        assert summary_of(slices, value).metrics["dice"].n == len(wanted)
        np.testing.assert_allclose(summary_of(slices, value).metrics["dice"].mean, np.mean(wanted or [np.nan]))


def test_slices_of_a_missing_mask_score_0_where_there_is_truth(stack):
    masks, references = stack
    save(volume([1], []), references / "b.nii.gz")
    evaluation = evaluate(masks, references, options=EvaluateOptions(slices=2))
    dice = {row.case: row.scores["dice"] for row in evaluation.rows if row.value == 1 and row.case.startswith("b")}
    np.testing.assert_equal(dice, {"b#000": 0.0, "b#001": np.nan})
    summary = summary_of(evaluation)
    assert (summary.missing, summary.empty_truth, summary.empty_truth_missing, summary.empty) == (2, 3, 1, 1)
    assert evaluation.exit_code == 1


def test_a_slice_is_in_the_part_of_its_volume(stack):
    evaluation = evaluate(*stack, options=EvaluateOptions(slices=2, held_out=["a"]))
    assert {row.part for row in evaluation.rows} == {"test"}
    assert evaluation.notes == ()


def test_a_volume_of_0_and_255_is_read_alike_in_every_slice(stack):
    masks, references = stack
    save(volume([255], [], [1, 255]), references / "a.nii.gz")
    save(volume([255], [], [1, 255]), masks / "a.nii.gz")
    evaluation = evaluate(masks, references, options=EvaluateOptions(slices=2, labels={1: "x", 255: "y"}))
    assert summary_of(evaluation, 255).metrics["dice"].n == 2
    save(volume([255], [], [255]), references / "a.nii.gz")
    save(volume([255], [], [255]), masks / "a.nii.gz")
    evaluation = evaluate(masks, references, options=EvaluateOptions(slices=2, labels={1: "x"}))
    assert summary_of(evaluation, 1).metrics["dice"].mean == 1
    assert [note.code for note in evaluation.notes] == ["LABEL_MAPPED"] * 2


def test_a_value_without_a_name_is_one_error_of_the_volume(stack):
    masks, references = stack
    save(volume([7], [7], [], [], []), masks / "a.nii.gz")
    evaluation = evaluate(masks, references, options=EvaluateOptions(slices=2, labels={1: "x", 2: "y"}))
    assert [(error.case, error.code) for error in evaluation.errors] == [("a", "LABEL_UNEXPECTED")]
    assert evaluation.rows == ()


def test_a_picture_is_one_slice(tmp_path):
    for folder, value in (("masks", 1), ("references", 0)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / folder / "eye.png")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(slices=2))
    assert {row.case: row.status for row in evaluation.rows if row.value == 1} == {"eye": EMPTY_TRUTH}


def test_images_with_empty_truth_are_told_and_stay_in_the_mean(tmp_path):
    for name, truth, found in (("hit", 1, 1), ("invented", 0, 1), ("clean", 0, 0)):
        for folder, value in (("references", truth), ("masks", found)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / folder / f"{name}.png")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(labels={1: "polyp"}))
    summary = summary_of(evaluation)
    assert (summary.empty_truth, summary.empty, summary.false_positive_voxels) == (2, 1, 16)
    assert summary.metrics["dice"].mean == 0.5
    assert "Empty truth" in evaluation.to_text()


def test_without_empty_truth_there_is_no_line_about_it(stack):
    evaluation = evaluate(*stack)
    assert (summary_of(evaluation).empty_truth, "Empty truth" in evaluation.to_text()) == (0, False)


def test_an_axis_that_is_none_is_refused(stack):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        evaluate(*stack, options=EvaluateOptions(slices=3))


def test_the_tables_hold_the_slices_and_the_policy_tells_of_them(stack, tmp_path):
    evaluation = evaluate(*stack, output=tmp_path / "out", options=EvaluateOptions(slices=2))
    assert [row.status for row in read_cases(tmp_path / "out") if row.value == 1].count(EMPTY_TRUTH) == 2
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open(newline="")))
    assert {(row["empty_truth"], row["false_positive_voxels"]) for row in rows if row["value"] == "1"} == {("2", "3")}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["settings"]["slices"]
    assert evaluation.policy != evaluate(*stack).policy
    assert max(map(len, evaluation.to_text().splitlines())) <= 100


def test_the_background_is_a_class_only_where_asked_for(stack):
    plain, asked = evaluate(*stack), evaluate(*stack, options=EvaluateOptions(background=True))
    assert {row.value for row in plain.worst()} == {1}
    assert {row.value for row in asked.worst()} == {0, 1}
    means = [summary_of(asked, value).metrics["iou"].mean for value in (0, 1)]
    assert summary_of(asked, None, name=EVERY_CLASS).metrics["iou"].mean == pytest.approx(np.mean(means))
    assert summary_of(asked, None) == summary_of(plain, None)
    assert EVERY_CLASS not in {summary.name for summary in plain.summaries}


def test_values_of_the_references_are_read_as_other_classes(tmp_path):
    save(volume([1, 2, 4]), tmp_path / "references" / "a.nii.gz")
    save(volume([1, 2, 3]), tmp_path / "masks" / "a.nii.gz")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(renamed={4: 3}))
    assert {row.value: row.scores["dice"] for row in evaluation.rows} == {0: 1, 1: 1, 2: 1, 3: 1}
    assert [note.code for note in evaluation.notes] == ["LABEL_MAPPED"]
    merged = evaluate(
        tmp_path / "masks",
        tmp_path / "references",
        options=EvaluateOptions(renamed={4: 1, 2: 1}, labels={1: "x", 2: "", 3: ""}),
    )
    assert {row.value: row.scores["reference_ml"] for row in merged.rows} == pytest.approx(
        {0: 0.018, 1: 0.054, 2: 0, 3: 0}
    )


def test_values_are_exchanged_all_at_once_and_one_that_never_occurs_is_noted(stack):
    masks, references = stack
    save(volume([1, 2]), references / "a.nii.gz")
    save(volume([2, 1]), masks / "a.nii.gz")
    evaluation = evaluate(masks, references, options=EvaluateOptions(renamed={1: 2, 2: 1, 9: 1}))
    assert {row.scores["dice"] for row in evaluation.rows} == {1}
    assert [note.code for note in evaluation.notes] == ["LABEL_MAPPED", "LABEL_MAPPED", "LABEL_ABSENT"]


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.int64, (2, 7), elements=st.integers(0, 4)),
    st.dictionaries(st.integers(0, 4), st.integers(0, 5), max_size=4),
)
def test_renaming_a_table_is_renaming_the_voxels(masks, renamed):
    prediction, reference = masks
    voxels = np.array([renamed.get(value, value) for value in reference.tolist()])
    ours, theirs = rename_values(tabulate(prediction, reference), renamed), tabulate(prediction, voxels)
    assert (ours.reference_values, ours.prediction_values) == (theirs.reference_values, theirs.prediction_values)
    np.testing.assert_array_equal(ours.voxels, theirs.voxels)


def test_a_mask_found_by_file_name_is_noted_and_keeps_its_part(tmp_path):
    save(volume([1]), tmp_path / "masks" / "patient1_frame01.nii.gz")
    save(volume([1]), tmp_path / "references" / "patient1" / "patient1_frame01_gt.nii.gz")
    evaluation = evaluate(
        tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(held_out=["patient1_frame01"])
    )
    assert {(row.case, row.part) for row in evaluation.rows} == {("patient1/patient1_frame01", "test")}
    assert [note.code for note in evaluation.notes] == ["PAIRED_BY_NAME"]
    assert evaluation.exit_code == 0


def test_missing_masks_are_exit_code_1_unless_left_out_knowingly(stack):
    masks, references = stack
    save(volume([1]), references / "b.nii.gz")
    assert [
        evaluate(masks, references, options=EvaluateOptions(missing=each)).exit_code
        for each in ("zero", "skip", "error")
    ] == [1, 0, 1]


def test_the_command_takes_the_three_options(stack, capsys, tmp_path):
    folders = [str(folder) for folder in stack]
    out = ["--quiet", "--output", str(tmp_path / "out")]
    assert cli.main(["evaluate", *folders, "--slices", "--background", "--map", "1=2", "--map", "2=1", *out]) == 0
    settings = json.loads((tmp_path / "out" / "evaluation.json").read_text())["settings"]
    assert {"slices", "background", "renamed"} <= set(settings)
    for wrong in ("1", "a=b", "1=2=3", "-1=2"):
        assert cli.main(["evaluate", *folders, f"--map={wrong}"]) == 2
    assert cli.main(["evaluate", *folders, "--map", "1=2", "--map", "1=3"]) == 2
    assert "SETTING_INVALID" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path):
    """References and masks; the record beside the masks and the dataset.json say different things."""
    references, masks = tmp_path / "data" / "references", tmp_path / "masks"
    references.mkdir(parents=True)
    masks.mkdir()
    (masks / "predictions.json").write_text(json.dumps({"labels": {"1": "by the record"}}))
    return references, masks


def test_what_the_caller_says_comes_first_then_the_data_set_then_the_record(folders):
    references, masks = folders
    assert find_names(None, references, masks) == {0: "background", 1: "by the record"}
    (references.parent / "dataset.json").write_text(json.dumps({"labels": {"above": 1}}))
    assert find_names(None, references, masks) == {0: "background", 1: "above"}
    (references / "dataset.json").write_text(json.dumps({"labels": {"1": "inside"}}))
    assert find_names(None, references, masks) == {0: "background", 1: "inside"}
    assert find_names({2: "said"}, references, masks) == {0: "background", 2: "said"}


def test_a_mask_s_own_folder_is_searched_where_single_files_are_given(folders):
    references, masks = folders
    (references / "dataset.json").write_text(json.dumps({"labels": {"ball": 1}}))
    for place in (references / "a.nii.gz", references / "dataset.json"):
        assert find_names(None, place, masks / "a.nii.gz") == {0: "background", 1: "ball"}


@pytest.mark.parametrize(
    "labels", [None, {}, [], {"tumour": [1, 2]}, {"ball": True}, {"ball": 1.5}, {"ball": "one"}, {"ball": -1}]
)
def test_labels_that_name_no_single_values_are_passed_over(folders, labels):
    references, masks = folders
    (references / "dataset.json").write_text(json.dumps({"labels": labels}))
    (masks / "predictions.json").unlink()
    assert find_names(None, references, masks) is None


def test_a_description_that_cannot_be_read_is_refused(folders):
    references, masks = folders
    (references / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        find_names(None, references, masks)


def test_the_background_is_value_0_unless_something_else_is_said():
    assert add_background({2: "b", 1: "a"}) == {0: "background", 1: "a", 2: "b"}
    assert add_background({0: "air"}) == {0: "air"}
    assert add_background({}) == {0: "background"}


def test_values_without_names_are_numbered():
    table = tabulate(np.array([0, 2, 7]), np.array([0, 2, 3]))
    assert number_names([table]) == {0: "background", 2: "class 2", 3: "class 3", 7: "class 7"}
    assert number_names([]) == {0: "background"}


@pytest.mark.parametrize(
    ("prediction", "reference", "values"), [(255, 1, [0, 1]), (255, 255, [0, 1]), (0, 0, [0]), (255, 2, [0, 2, 255])]
)
def test_255_is_the_one_class_of_a_mask_drawn_in_black_and_white(prediction, reference, values):
    table = tabulate(np.array([0, prediction]), np.array([0, reference]))
    assert list(number_names([table])) == values


def test_the_value_called_ignore_is_no_class():
    assert split_ignored({0: "background", 1: "ball", 9: "ignore"}) == ({0: "background", 1: "ball"}, 9)
    assert split_ignored({0: "background"}) == ({0: "background"}, None)
