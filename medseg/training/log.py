"""The record of a training: one row for each epoch and each batch, and TensorBoard's scalars."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from medseg.errors import OutputError, UsageError
from medseg.files import write_text

LOG_COLUMNS = (
    "epoch",
    "loss",
    "val_loss",
    "train_mean_dice",
    "train_mean_iou",
    "train_accuracy",
    "val_mean_dice",
    "val_mean_iou",
    "val_accuracy",
    "learning_rate",
    "seconds",
)
BATCH_COLUMNS = ("epoch", "part", "step", "loss")

Record = Mapping[str, Any]


class TrainingLog:
    """Writes a run's `epochs.csv` and `batches.csv`, and TensorBoard's events where wanted.

    Args:
        folder: Folder of the files.
        is_board_wanted: Write TensorBoard's events.

    Raises:
        UsageError: PACKAGE_MISSING, TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, is_board_wanted: bool = False) -> None:
        self.folder = folder
        self.tables = {"epochs.csv": LOG_COLUMNS, "batches.csv": BATCH_COLUMNS}
        self._writer_class = _summary_writer() if is_board_wanted else None
        self._board: Any = None

    def begin(self, epoch: int) -> None:
        """Keep the rows up to ``epoch``, the last that is not trained again, and none where it is 0."""
        for name, columns in self.tables.items():
            path = self.folder / name
            rows = _rows_until(path, epoch) if epoch and path.is_file() else []
            write_text(_text([dict.fromkeys(columns) | row for row in rows], columns, has_header=True), path)
        if self._writer_class:
            self._board = self._writer_class(str(self.folder), purge_step=epoch + 1)

    def add(self, epoch: Record, batches: Sequence[Record]) -> None:
        """Write an epoch's row, and the rows of its batches.

        Raises:
            OutputError: OUTPUT_UNWRITABLE.
        """
        self._append("batches.csv", batches)
        self._append("epochs.csv", [epoch])
        if self._board:
            for name in LOG_COLUMNS[1:]:
                if epoch[name] is not None:
                    self._board.add_scalar(name, float(epoch[name]), epoch["epoch"])
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board:
            self._board.close()

    def _append(self, name: str, rows: Iterable[Record]) -> None:
        text = _text(rows, self.tables[name])
        try:
            with (self.folder / name).open("a", newline="", encoding="utf8") as file:
                file.write(text)
        except OSError as error:
            raise OutputError(
                "OUTPUT_UNWRITABLE", self.folder / name, str(error), "free space, then go on with --resume"
            ) from error


def epochs_logged(folder: Path) -> int | None:
    """How many epochs the log in ``folder`` holds; None where there is no log that can be read."""
    try:
        with (folder / "epochs.csv").open(newline="", encoding="utf8") as file:
            return sum(1 for _ in csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return None


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "PACKAGE_MISSING", "tensorboard", "is not installed", "pip install 'medseg[tensorboard]', or leave it out"
        ) from error
    return SummaryWriter


def _rows_until(path: Path, epoch: int) -> list[dict[str, str]]:
    """The whole rows of a table up to an epoch: what is behind belongs to epochs that are trained again."""
    with path.open(newline="", encoding="utf8") as file:
        whole = [row for row in csv.DictReader(file) if None not in row.values()]
    return [row for row in whole if int(row["epoch"]) <= epoch]


def _text(rows: Iterable[Record], columns: Sequence[str], has_header: bool = False) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    if has_header:
        writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def _plain(value: object) -> object:
    """Seven digits of a number: as much as float32 has."""
    if isinstance(value, Tensor):
        value = value.item()
    return float(f"{value:.7g}") if isinstance(value, float) else value
