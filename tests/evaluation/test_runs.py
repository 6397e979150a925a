import math

import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.runs import (
    Batch,
    choose_part,
    find_runs,
    find_runs_below,
    is_scored,
    list_run_folders,
    read_batches,
    read_epochs,
    read_fold,
    read_part,
    read_parts,
    read_table,
)
from tests.evaluation.run_folders import GOOD, TRUE, make_run


def test_an_empty_cell_is_nan_and_a_repeated_epoch_counts_as_it_ran_last(tmp_path):
    (tmp_path / "epochs.csv").write_text("epoch,loss,val_loss\n1,0.9,\n3,0.5,0.6\n2,0.8,0.9\n2,0.7,\n")
    rows = read_epochs(tmp_path)
    assert [(row["epoch"], row["loss"]) for row in rows] == [(1, 0.9), (2, 0.7), (3, 0.5)]
    assert math.isnan(rows[0]["val_loss"]) and math.isnan(rows[1]["val_loss"]) and rows[2]["val_loss"] == 0.6


def test_a_log_without_epochs_is_empty(tmp_path):
    (tmp_path / "epochs.csv").write_text("epoch,loss\n")
    assert read_epochs(tmp_path / "epochs.csv") == []


def test_batches_keep_their_order_and_part(tmp_path):
    (tmp_path / "batches.csv").write_text("epoch,part,step,loss\n1,train,1,0.5\n1,validation,1,0.25\n")
    assert read_batches(tmp_path) == [Batch(1, "train", 1, 0.5), Batch(1, "validation", 1, 0.25)]


@pytest.mark.parametrize("text", ["loss\n1\n", "epoch,loss\n1\n", "epoch,loss\nfirst,1\n", "", "epoch,loss\n1,a\n"])
def test_what_is_no_log_is_refused(tmp_path, text):
    (tmp_path / "epochs.csv").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_epochs(tmp_path)
    assert caught.value.code == "RECORD_UNREADABLE"


def test_batches_without_a_part_are_refused(tmp_path):
    (tmp_path / "batches.csv").write_text("epoch,step,loss\n1,1,0.5\n")
    with pytest.raises(DatasetError):
        read_batches(tmp_path)


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        read_batches(tmp_path / "batches.csv")
    assert caught.value.code == "INPUT_MISSING"


def test_a_folder_named_twice_is_one_row_and_the_tenth_fold_comes_last(tmp_path):
    for index in (1, 2, 10):
        make_run(tmp_path / "row" / f"fold{index}", GOOD, TRUE, fold=f"fold {index} of 10", part="validation")
    (folders,) = find_runs([tmp_path, tmp_path / "row"]).values()
    assert [folder.name for folder in folders] == ["fold1", "fold2", "fold10"]


def test_runs_are_found_up_to_two_levels_below_a_place(tmp_path):
    run = make_run(tmp_path / "a" / "b" / "run", GOOD, TRUE)
    assert find_runs_below(tmp_path / "a") == find_runs_below(run) == [run]
    assert find_runs_below(tmp_path) == find_runs_below(tmp_path / "nowhere") == []
    assert list_run_folders([run, tmp_path / "a"]) == [run]
    with pytest.raises(InputError, match="RUN_NOT_FOUND"):
        list_run_folders([tmp_path])


def test_a_run_is_scored_by_the_weights_that_it_has(tmp_path):
    run = make_run(tmp_path / "run", GOOD, TRUE)
    assert is_scored(run, "test") and not is_scored(run, "validation")
    (run / "models" / "model.pt").write_bytes(b"others")
    assert not is_scored(run, "test")


@pytest.mark.parametrize(
    ("how", "fold", "part"), [("fold 2 of 5", (2, 5), "validation"), ("drawn", None, "test"), ("a fold", None, "test")]
)
def test_what_a_fold_held_out_is_scored_and_else_the_test_part(tmp_path, how, fold, part):
    run = make_run(tmp_path / "run", GOOD, TRUE, fold=how)
    assert (read_fold(run), choose_part(run)) == (fold, part)
    (run / "configs" / "split.json").unlink()
    assert (read_fold(run), choose_part(run)) == (None, "test")


def test_a_table_that_is_none_is_refused_with_what_to_do(tmp_path):
    for text in ("{", "[1]", ""):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(DatasetError, match="train the run anew"):
            read_table(tmp_path / "run.json")
        with pytest.raises(DatasetError, match="restore the folder"):
            read_table(tmp_path / "run.json", "restore the folder")


def test_the_scored_parts_of_a_run_say_where_their_masks_are(tmp_path):
    run = make_run(tmp_path / "run", GOOD, TRUE)
    (run / "masks_test").mkdir()
    (scores,) = read_parts(run)
    assert (scores.part, scores.masks) == ("test", run / "masks_test")
    assert scores.labels == {0: "background", 1: "ball", 2: "stick"}
    assert {row.part for row in scores.rows} == {"test"}
    assert read_part(run, "test") == scores
    with pytest.raises(InputError, match="its train part has no scores"):
        read_part(run, "train")
    assert read_parts(tmp_path) == []
