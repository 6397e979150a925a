import csv

import pytest
import torch

from medseg.errors import OutputError, UsageError
from medseg.training.log import BATCH_COLUMNS, LOG_COLUMNS, TrainingLog, epochs_logged


def rows(path):
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def epoch_row(epoch, **values):
    return {**dict.fromkeys(LOG_COLUMNS), "epoch": epoch, **values}


def batch_row(epoch, step, loss=0.5):
    return {"epoch": epoch, "part": "train", "step": step, "loss": loss}


@pytest.fixture
def log(tmp_path):
    log = TrainingLog(tmp_path / "logs")
    log.begin(0)
    return log


def test_a_log_begins_with_its_columns_and_no_rows(log):
    assert (log.folder / "epochs.csv").read_text() == ",".join(LOG_COLUMNS) + "\n"
    assert (log.folder / "batches.csv").read_text() == ",".join(BATCH_COLUMNS) + "\n"
    assert epochs_logged(log.folder) == 0


def test_an_epoch_and_its_batches_are_added_with_as_many_digits_as_float32_has(log):
    log.add(epoch_row(1, loss=1 / 3, val_mean_dice=torch.tensor(0.1)), [batch_row(1, 1), batch_row(1, 2, 2 / 3)])
    (row,) = rows(log.folder / "epochs.csv")
    assert (row["epoch"], row["loss"], row["val_mean_dice"], row["val_loss"]) == ("1", "0.3333333", "0.1", "")
    assert [row["loss"] for row in rows(log.folder / "batches.csv")] == ["0.5", "0.6666667"]
    assert epochs_logged(log.folder) == 1


def test_what_is_trained_again_is_cut_off_and_half_a_row_with_it(log):
    for epoch in (1, 2, 3):
        log.add(epoch_row(epoch, loss=epoch), [batch_row(epoch, 1)])
    with (log.folder / "epochs.csv").open("a") as file:
        file.write("4,0.5")
    again = TrainingLog(log.folder)
    again.begin(2)
    assert [row["epoch"] for row in rows(log.folder / "epochs.csv")] == ["1", "2"]
    assert [row["epoch"] for row in rows(log.folder / "batches.csv")] == ["1", "2"]
    again.begin(0)
    assert epochs_logged(log.folder) == 0


def test_a_column_that_an_older_log_lacks_is_left_empty(tmp_path):
    (tmp_path / "epochs.csv").write_text("epoch,loss\n1,0.5\n")
    TrainingLog(tmp_path).begin(1)
    (row,) = rows(tmp_path / "epochs.csv")
    assert row == {**dict.fromkeys(LOG_COLUMNS, ""), "epoch": "1", "loss": "0.5"}


def test_a_log_that_cannot_be_written_says_how_to_go_on(log):
    (log.folder / "batches.csv").unlink()
    (log.folder / "batches.csv").mkdir()
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE.*--resume"):
        log.add(epoch_row(1), [batch_row(1, 1)])


def test_no_number_of_epochs_is_known_without_a_log_that_can_be_read(tmp_path):
    assert epochs_logged(tmp_path) is None
    (tmp_path / "epochs.csv").write_bytes(b"epoch\n\xff\xfe\n")
    assert epochs_logged(tmp_path) is None


def test_tensorboard_that_is_not_installed_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="PACKAGE_MISSING: tensorboard"):
        TrainingLog(tmp_path / "logs", is_board_wanted=True)
    assert not (tmp_path / "logs").exists()
