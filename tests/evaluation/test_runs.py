import math

import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.runs import Batch, read_batches, read_epochs


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
    assert caught.value.code == "LOG_UNREADABLE"


def test_batches_without_a_part_are_refused(tmp_path):
    (tmp_path / "batches.csv").write_text("epoch,step,loss\n1,1,0.5\n")
    with pytest.raises(DatasetError):
        read_batches(tmp_path)


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        read_batches(tmp_path / "batches.csv")
    assert caught.value.code == "INPUT_MISSING"
