"""What a training changes in its bundle's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.data.splits import Split
from medseg.errors import UsageError


@dataclass(frozen=True)
class TrainOptions:
    """What a training changes in its bundle's own configuration.

    Args:
        epochs: Number of epochs in all.
        network: A key of ``medseg.networks.NETWORKS`` or one of MONAI's networks by name.
        loss: A key of ``medseg.losses.LOSSES``.
        settings: Any other keys of `train.json`, nested ones as ``a::b``, with their new values.
        resume: Go on with the run in the output folder.
        new_split: Draw a split, also where the bundle's own names the data set's cases.
        form: Another form of the bundle, laid over its configuration before all other changes.
        split: The split to train on; it names every case of the data set.
    """

    epochs: int | None = None
    network: str | None = None
    loss: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    new_split: bool = False
    form: str | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.new_split:
            raise UsageError("SETTING_INVALID", "new_split", "goes against a given split", "leave one of them out")
        begun = {"new_split": self.new_split, "form": self.form, "split": self.split}
        for name in (name for name, value in begun.items() if value and self.resume):
            raise UsageError(
                "RESUME_SETTING", name, "cannot change in a run under way", "leave it out, or start a new run for it"
            )
        epochs = self.overrides.get("epochs", 1)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise UsageError("SETTING_INVALID", "epochs", f"{epochs!r} is no number of epochs", "give one such as 50")

    @property
    def overrides(self) -> dict[str, Any]:
        """The changes by configuration key."""
        named = {"epochs": self.epochs, "network_name": self.network, "loss_name": self.loss}
        return {**{key: value for key, value in named.items() if value is not None}, **self.settings}
