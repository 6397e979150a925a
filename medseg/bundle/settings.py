"""The settings that describe one bundle: what a `tools/bundle_src/*.yaml` file may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import UsageError, check_known

INTENSITIES = ("z-score", "window", "unit")
"""How voxel values are scaled: zero mean and unit variance; a fixed window to [0, 1]; minimum..maximum to [0, 1]."""
SAMPLINGS = ("anywhere", "balanced")
"""Where training patches are cut: uniformly, or with every class equally often at the centre."""


@dataclass(frozen=True)
class Settings:
    """One bundle's settings, validated on construction.

    Args:
        name: The bundle's folder; must contain "segmentation" (MONAI Label infers the type from it).
        labels: Name of each label value, 0 being the background.
        spacing_mm: Voxel spacing that images are resampled to; None keeps each image's own.
        intensity: ``{"kind": one of INTENSITIES}``; a window also has ``low`` and ``high``.
        patch_voxels: Size of training patches and of the sliding window, one number per axis.
        mirror_axes: Axes (0 = left-right) along which mirrored anatomy is still plausible; used in
            training and for test-time augmentation.
        fractions: Shares of the patients for training, validation and test.
        trained: What the shipped weights were trained on, and how; shown in the card.
    """

    name: str
    title: str
    description: str
    intended_use: str
    modality: str
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    data_source: str
    patch_voxels: tuple[int, ...]
    intensity: Mapping[str, Any]
    network: Mapping[str, Any]
    version: str = "0.1.0"
    changelog: Mapping[str, str] = field(default_factory=lambda: {"0.1.0": "first release"})
    weights_licence: str = "Apache-2.0"
    references: tuple[str, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    loss_name: str = "dice-ce"
    overlap: float = 0.5
    sampling: str = "anywhere"
    patches_per_case: int = 1
    mirror_axes: tuple[int, ...] = ()
    rotation_radians: float = 0.3
    scaling: float = 0.2
    noise: float = 0.1
    epochs: int = 100
    batch_size: int = 4
    learning_rate: float = 0.002
    weight_decay: float = 0.0001
    seed: int = 2026
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    trained: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require("segmentation" in self.name, "name", "must contain 'segmentation'")
        self._require(set(self.labels) == set(range(len(self.labels))), "labels", "must count from 0 without gaps")
        self._require(len(self.patch_voxels) in {2, 3}, "patch_voxels", "needs two or three numbers")
        self._require(
            self.intensity.get("kind") in INTENSITIES, "intensity", f"kind is one of {', '.join(INTENSITIES)}"
        )
        self._require(self.sampling in SAMPLINGS, "sampling", f"is one of {', '.join(SAMPLINGS)}")
        self._require("name" in self.network, "network", "needs a name")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.patch_voxels)

    def _require(self, holds: bool, key: str, rule: str) -> None:
        if not holds:
            raise UsageError("SETTING_INVALID", f"{self.name}: {key}", f"{getattr(self, key)!r}: {rule}", "correct it")


def read_settings(path: Path) -> Settings:
    """The settings in a YAML file.

    Raises:
        UsageError: A key is unknown or missing, or a value is not allowed.
    """
    given: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf8"))
    known = [item.name for item in fields(Settings)]
    check_known("SETTING_UNKNOWN", given, known, path.name)
    required = {f.name for f in fields(Settings) if f.default is MISSING and f.default_factory is MISSING}
    if missing := required - set(given):
        raise UsageError("SETTING_MISSING", path.name, f"{', '.join(sorted(missing))} not given", "add them")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Settings(**values)
