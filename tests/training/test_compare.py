import json
import shutil

import numpy as np
import pytest
import torch

import medseg
from medseg.data.splits import Split, read_split, write_split
from medseg.errors import DatasetError, ImageError, InputError, UsageError
from medseg.options import TrainOptions
from medseg.training.compare import Experiment, compare, plan_runs, score_missing
from tests.conftest import save_nifti

FILES = ("comparison.csv", "comparison.json", "comparison.html", "comparison.png")


@pytest.fixture
def study(tiny_bundle, ball_data):
    def build(**changes):
        options = TrainOptions(epochs=changes.pop("epochs", 1), settings=changes.pop("settings", {}))
        return Experiment(tiny_bundle, ball_data, options=options, **changes)

    return build


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def out(study, tmp_path, kept):
    """The output of one finished row, `unet`, for each test its own; trained once."""
    if not (kept / "out").exists():
        compare(study(networks=("unet",)), kept / "out")
    return shutil.copytree(kept / "out", tmp_path / "out")


def told(events):
    return lambda run, what, total: events.append((run.name, what, total))


def test_rows_are_trained_on_the_same_folds_and_gathered_again_from_their_folders(study, tmp_path):
    asked, out, events = study(networks=("unet", "res-unet"), folds=2), tmp_path / "out", []
    found = compare(asked, out, on_run=told(events))
    assert [row.name for row in found.rows] == ["res-unet", "unet"]
    assert (found.cases, found.folds, found.exit_code) == (8, 2, 0)
    held_out = [read_split(out / row / "fold1" / "configs" / "split.json").validation for row in ("unet", "res-unet")]
    assert held_out[0] == held_out[1]
    assert events[:3] == [("unet/fold1", what, 4) for what in ("training", "scoring", "done")]
    again = compare([out], tmp_path / "again")
    assert again.to_text() == found.to_text()
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_what_is_finished_is_kept(study, out):
    weights, events = (out / "unet" / "models" / "model.pt").read_bytes(), []
    compare(study(networks=("unet",)), out, on_run=told(events))
    assert events == [("unet", "kept", 1)]
    assert (out / "unet" / "models" / "model.pt").read_bytes() == weights


def test_an_interrupted_run_goes_on_to_the_same_weights(study, tmp_path, monkeypatch):
    class Stop(KeyboardInterrupt):
        pass

    def stop(record):
        raise Stop

    asked = study(epochs=2)
    train = medseg.train
    monkeypatch.setattr(
        "medseg.training.compare.train", lambda *words, options: train(*words, options=options, on_epoch=stop)
    )
    with pytest.raises(Stop):
        compare(asked, tmp_path / "parts")
    assert [run.state for run in plan_runs(asked, tmp_path / "parts")] == ["begun"]
    monkeypatch.setattr("medseg.training.compare.train", train)
    parts, whole = compare(asked, tmp_path / "parts"), compare(asked, tmp_path / "whole")
    assert repr(parts.rows[0].classes) == repr(whole.rows[0].classes)
    weights = [torch.load(tmp_path / name / "base" / "models" / "model.pt") for name in ("parts", "whole")]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def test_more_epochs_train_a_scored_row_further(study, out):
    more = study(networks=("unet",), epochs=2)
    assert [run.state for run in plan_runs(more, out)] == ["begun"]
    found = compare(more, out)
    assert found.rows[0].training["epochs"][0] == 2
    with pytest.raises(UsageError, match="ROW_DIFFERS.*epochs"):
        plan_runs(study(networks=("unet",)), out)


def test_a_row_goes_on_to_the_bundle_s_epochs_where_none_are_given(study, out, tiny_bundle):
    path = tiny_bundle / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "epochs": 2}))
    asked = study(networks=("unet",), epochs=None)
    assert [(run.state, run.epochs) for run in plan_runs(asked, out)] == [("begun", 2)]
    assert compare(asked, out).rows[0].training["epochs"][0] == 2
    assert [run.state for run in plan_runs(asked, out)] == ["scored"]


def test_a_split_file_is_the_split_of_every_row_and_its_scores(study, tmp_path):
    ids = tuple(f"ball_{case}" for case in range(8))
    named = write_split(Split(ids[2:6], ids[6:], ids[:2], None, "by hand"), tmp_path / "named.json")
    asked = study(settings={"split_file": str(named)})
    assert [run.options.split.test for run in plan_runs(asked, tmp_path / "out")] == [ids[:2]]
    assert compare(asked, tmp_path / "out").cases == 2
    run = tmp_path / "out" / "base"
    assert "named.json" not in (run / "configs" / "train.json").read_text()
    assert {path.name for path in (run / "masks_test").glob("*.nii.gz")} == {f"{case}.nii.gz" for case in ids[:2]}
    assert [run.state for run in plan_runs(asked, tmp_path / "out")] == ["scored"]


def test_sizes_of_the_parts_may_be_a_ratio(study, tmp_path):
    (run,) = plan_runs(study(settings={"fractions": "5:2:1"}), tmp_path / "out")
    assert (len(run.options.split.train), len(run.options.split.validation), len(run.options.split.test)) == (5, 2, 1)


@pytest.mark.parametrize("text", ["{", "[]", '{"overrides": [], "epochs": null}'])
@pytest.mark.parametrize("name", ["run.json", "configs/split.json", "scores_test/scored.json", "configs/train.json"])
def test_a_damaged_file_of_a_run_is_named(study, out, ball_data, name, text):
    (out / "unet" / name).write_text(text)
    asked = {"networks": ("unet",)}
    if name == "scores_test/scored.json" and "epochs" in text:  # A table, of no weights at all.
        assert [run.state for run in plan_runs(study(**asked), out)] == ["begun"]
        return
    with pytest.raises(DatasetError, match=f"RECORD_UNREADABLE.*{name}"):
        plan_runs(study(**asked), out)
    if name in ("configs/split.json", "scores_test/scored.json"):
        with pytest.raises(DatasetError, match=f"RECORD_UNREADABLE.*{name}"):
            score_missing([out], ball_data)


def test_a_row_that_fails_is_told_and_the_others_go_on(study, tmp_path):
    asked, events = study(vary={"val_interval": (5, 1)}), []
    found = compare(asked, tmp_path / "out", on_run=told(events))
    assert [row.name for row in found.rows] == ["val_interval-1"]
    assert [(failure.case, failure.code) for failure in found.failures] == [("val_interval-5", "NOT_VALIDATED")]
    assert found.failures[0].remedy in " ".join(found.to_text().split())
    assert found.exit_code == 1
    assert events[1] == ("val_interval-5", "failed", 2)


def test_where_every_row_fails_the_first_error_is_raised(study, tmp_path, monkeypatch):
    def fail(*words, **options):
        raise ImageError("NONFINITE_VOXELS", "a", "holds NaN", "replace it")

    monkeypatch.setattr("medseg.training.compare.train", fail)
    with pytest.raises(ImageError, match="NONFINITE_VOXELS"):
        compare(study(), tmp_path / "out")


def test_an_unfinished_scoring_is_made_again_without_training(study, out, monkeypatch):
    scored = out / "unet" / "scores_test" / "scored.json"
    scored.unlink()
    seen = []
    train = medseg.train
    monkeypatch.setattr(
        "medseg.training.compare.train", lambda *words, options: train(*words, options=options, on_epoch=seen.append)
    )
    compare(study(networks=("unet",)), out)
    assert scored.is_file()
    assert seen == []


def test_runs_of_train_are_scored_where_their_data_is_given(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    with pytest.raises(InputError, match="RUN_UNSCORED"):
        compare([tmp_path / "run"])
    score_missing([tmp_path / "run"], ball_data)
    (row,) = compare([tmp_path / "run"]).rows
    assert (row.name, row.network, row.folds) == ("run", "unet", 1)


def test_every_choice_goes_with_every_other_and_names_the_row(study, tmp_path):
    vary = {"learning_rate": (0.1, 0.01), "network_options::filters": (4,)}
    runs = plan_runs(study(networks=("unet", "res-unet"), losses=("dice",), vary=vary), tmp_path / "out")
    assert [run.name for run in runs] == [
        f"{network}_dice_learning_rate-{rate}_filters-4" for network in ("unet", "res-unet") for rate in (0.1, 0.01)
    ]
    assert runs[0].options.overrides == {
        "epochs": 1,
        "network_name": "unet",
        "loss_name": "dice",
        "learning_rate": 0.1,
        "network_options::filters": 4,
    }


def test_a_form_in_yaml_is_that_of_every_row(tiny_bundle, ball_data, tmp_path):
    (tiny_bundle / "configs" / "train_small.yaml").write_text("epochs: 3\n")
    asked = Experiment(tiny_bundle, ball_data, losses=("dice", "ce"), options=TrainOptions(form="small"))
    assert [run.epochs for run in plan_runs(asked, tmp_path / "out")] == [3, 3]


def test_every_case_is_held_out_once(study, tmp_path):
    runs = plan_runs(study(folds=4), tmp_path / "out")
    held_out = [case for run in runs for case in run.options.split.validation]
    assert sorted(held_out) == [f"ball_{case}" for case in range(8)]


def test_seeds_that_vary_leave_the_split_as_it_is(study, tmp_path):
    runs = plan_runs(study(vary={"seed": (1, 2)}), tmp_path / "out")
    assert len({run.options.split.test for run in runs}) == 1


@pytest.mark.parametrize("fractions", [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
def test_a_part_left_without_cases_leaves_no_folder_behind(study, tiny_bundle, ball_data, tmp_path, fractions):
    settings = {"fractions": fractions}
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(settings=settings))
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        compare(study(settings=settings, part="validation" if fractions[1] else "train"), tmp_path / "out")
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_of_nothing_but_empty_masks_leaves_no_folder_behind(study, ball_data, tmp_path, part):
    asked = study(settings={"drop_empty": True})
    (run,) = plan_runs(asked, tmp_path / "out")
    for case in getattr(run.options.split, part):
        save_nifti(np.zeros((20, 18, 16), np.uint8), ball_data / "labels" / f"{case}.nii.gz")
    with pytest.raises(DatasetError, match=f"PART_EMPTY.*{part}"):
        compare(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"networks": ("unett",)}, "NAME_UNKNOWN"),
        ({"losses": ("dise",)}, "NAME_UNKNOWN"),
        ({"networks": ("unet", "unet")}, "SETTING_INVALID"),
        ({"vary": {"lerning_rate": (1,)}}, "SETTING_UNKNOWN"),
        ({"folds": 9}, "SETTING_INVALID"),
        ({"folds": 2, "settings": {"split_file": "split.json"}}, "SETTING_INVALID: split_file"),
        ({"vary": {"split_file": ("a.json", "b.json")}}, "SETTING_INVALID: split_file"),
        ({"vary": {"fractions": ([0.5, 0.25, 0.25], [0.6, 0.2, 0.2])}}, "SETTING_INVALID: fractions"),
        ({"vary": {"seed": (1, 2)}, "settings": {"seed": 3}}, "SETTING_INVALID: seed"),
        ({"networks": ("unet",), "settings": {"network_name": "vnet"}}, "SETTING_INVALID: network_name"),
        ({"losses": ("dice",), "vary": {"loss_name": ("focal",)}}, "SETTING_INVALID: loss_name"),
        ({"vary": {"epochs": (1, 2)}}, "SETTING_INVALID: epochs"),
        ({"part": "tset"}, "NAME_UNKNOWN"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_trained(study, tmp_path, changes, code):
    with pytest.raises(UsageError, match=code):
        compare(study(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_test_part_of_folds_is_refused_as_empty(study, tmp_path):
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        plan_runs(study(folds=2, part="test"), tmp_path / "out")


def test_a_folder_with_other_settings_or_other_cases_is_refused(study, out):
    with pytest.raises(UsageError, match="ROW_DIFFERS.*learning_rate"):
        plan_runs(study(networks=("unet",), settings={"learning_rate": 0.1}), out)
    with pytest.raises(UsageError, match="CASES_DIFFER"):
        plan_runs(study(networks=("res-unet",), folds=2), out)


def test_a_setting_that_a_row_leaves_to_the_bundle_is_told_as_such(study, out):
    with pytest.raises(UsageError, match="learning_rate") as refused:
        plan_runs(study(networks=("unet",), settings={"learning_rate": 0.1}), out)
    assert "None" not in refused.value.problem


def test_the_split_of_the_form_is_that_of_every_row(tiny_bundle, ball_data, tmp_path):
    (tiny_bundle / "configs" / "train_small.json").write_text("{}")
    own = tiny_bundle / "configs" / "split_small.json"
    ids = tuple(f"ball_{case}" for case in range(8))
    asked = Experiment(tiny_bundle, ball_data, options=TrainOptions(epochs=1, form="small"))
    write_split(Split(ids[2:6], ids[6:], ids[:2], None, "by hand"), own)
    assert [run.options.split.test for run in plan_runs(asked, tmp_path / "out")] == [ids[:2]]
    write_split(Split(("a", *ids[2:6]), ids[6:], ids[:2], None, "by hand"), own)
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL"):
        plan_runs(asked, tmp_path / "out")


def test_a_published_table_is_set_beside(study, out, tmp_path):
    (tmp_path / "paper.csv").write_text("row,class,metric,value\nunet,1,dice,0.5\n")
    found = compare(study(networks=("unet",)), out, published=tmp_path / "paper.csv")
    assert [each.row for each in found.beside] == ["unet"]
    assert json.loads((out / "comparison.json").read_text())["published"][0]["published"]["value"] == 0.5


def test_an_experiment_needs_a_folder(study):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        compare(study())
