"""The settings that describe one bundle: what a `tools/bundle_src/*.yaml` file may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from medseg.data.terminology import Term, list_known_names, read_terms
from medseg.errors import UsageError, check_known

INTENSITIES = ("z-score", "window", "unit")
"""How voxel values are scaled: zero mean and unit variance; a fixed window to [0, 1]; minimum..maximum to [0, 1]."""
SAMPLINGS = ("anywhere", "balanced")
"""Where training patches are cut: uniformly, or with every class equally often at the centre."""
ACTIVATIONS = ("softmax", "sigmoid")
"""What turns logits into probabilities: over all classes, or of one foreground class (a single output channel)."""
AUGMENTATION: Mapping[str, Any] = {
    "move_probability": 0.5,
    "rotation_radians": 0.3,
    "scaling": 0.2,
    "shift": 1 / 12,
    "padding": "zeros",
    "elastic": None,
    "noise": 0.1,
    "blur": (0.3, 0.8),
    "brightness": 0.25,
    "brightness_probability": 0.3,
    "colour": False,
    "gamma": (0.7, 1.5),
}
"""Random changes of training images and their defaults; 0 or None leaves one out.

With ``move_probability``, turns, scaling (a share), shift (a share of the patch) and elastic deformation
(``{"spacing": voxels between control points, "magnitude": [low, high] voxels}``, 2D) fill
from outside by ``padding``; noise (sd), blur (range of sigmas in voxels), brightness
(largest factor; of each channel by itself with ``colour``) and gamma (range) concern
intensities after scaling.
"""


@dataclass(frozen=True)
class Settings:
    """One bundle's settings, validated on construction.

    Args:
        name: The bundle's folder; must contain "segmentation" (MONAI Label infers the type from it).
        channels: Names of the images; see ``named_channels``.
        labels: Name of each class, 0 being the background.
        terminology: Codes and colour of the classes for DICOM; see ``medseg.data.terminology.read_terms``.
        label_values: Class of each value in the masks, where they are not the same.
        named_channels: Take the channels of these names, of more that a data set has.
        activation: One of ACTIVATIONS; sigmoid has one output channel, for class 1.
        slicewise: The network is 2D and runs over each slice (third axis) of a volume.
        spacing_mm: Voxel spacing that images are resampled to; None keeps each image's own.
        slice_range: The slices (from, to; third axis) that count, the others being background.
        resize_voxels: Size that images are resized to; -1 keeps an axis.
        crop_voxels: Size that images are cropped or padded to, about the centre; -1 keeps an axis.
        crop_to_mask: Training and validation: voxels kept around the cuboid of the mask; None keeps all.
        suppress_outside: Training and validation: voxels outside the mask's structures become the lowest.
            Prediction has no mask and sees the whole image.
        drop_empty: Leave out cases without foreground.
        keep_largest: Keep only the largest connected piece of each class, for there is but one of it.
        intensity: ``{"kind": one of INTENSITIES}``; a window also has ``low`` and ``high``.
        patch_voxels: Size of training patches and of the sliding window, one number per axis of the network.
        mirror_axes: Axes (0 = left-right) along which mirrored anatomy is still plausible; used in
            training and for test-time augmentation.
        augmentation: Changes to AUGMENTATION.
        loss_options: Options of a loss by its name, used where that loss is chosen.
        select_by: Which weights are kept: ``val_mean_dice`` (highest) or ``val_loss`` (lowest).
        average_decay: Above 0, a running average of the weights is what is validated and kept.
        patience: Epochs without a lower validation loss after which the training ends; 0 never ends it early.
        fractions: Shares (or numbers) of the patients for training, validation and test.
        forms: Other forms of the bundle by name: what each changes of these settings.
        shipped: The form whose weights are shipped; empty for the bundle as it is.
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
    terminology: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    label_values: Mapping[int, int] = field(default_factory=dict)
    named_channels: bool = False
    activation: str = "softmax"
    slicewise: bool = False
    spacing_mm: tuple[float, ...] | None = None
    slice_range: tuple[int, int] | None = None
    resize_voxels: tuple[int, ...] | None = None
    crop_voxels: tuple[int, ...] | None = None
    crop_to_mask: int | None = None
    suppress_outside: bool = False
    drop_empty: bool = False
    keep_largest: bool = False
    overlap: float = 0.5
    sampling: str = "anywhere"
    patches_per_case: int = 1
    mirror_axes: tuple[int, ...] = ()
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    loss_name: str = "dice-ce"
    loss_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optimizer_name: str = "adamw"
    learning_rate: float = 0.002
    momentum: float = 0.99
    weight_decay: float = 0.0001
    schedule_name: str = "poly"
    epochs: int = 100
    batch_size: int = 4
    select_by: str = "val_mean_dice"
    average_decay: float = 0.0
    patience: int = 0
    seed: int = 2026
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    forms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shipped: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require("segmentation" in self.name, "name", "must contain 'segmentation'")
        self._require(set(self.labels) == set(range(len(self.labels))), "labels", "must count from 0 without gaps")
        self._require(set(self.label_values.values()) <= set(self.labels), "label_values", "must lead to the labels")
        self._require(len(self.patch_voxels) in {2, 3}, "patch_voxels", "needs two or three numbers")
        self._require(not self.slicewise or self.spatial_dims == 2, "slicewise", "goes with patches of two numbers")
        self._require_one_of("activation", ACTIVATIONS)
        self._require(self.activation == "softmax" or len(self.labels) == 2, "activation", "sigmoid is for two labels")
        self._require(
            self.intensity.get("kind") in INTENSITIES, "intensity", f"kind is one of {', '.join(INTENSITIES)}"
        )
        self._require_one_of("sampling", SAMPLINGS)
        self._require("name" in self.network, "network", "needs a name")
        self._require(not self.shipped or self.shipped in self.forms, "shipped", "must name one of the forms")
        self._check_terminology()
        check_known("SETTING_UNKNOWN", self.augmentation, AUGMENTATION, f"{self.name}: augmentation")

    @property
    def terms(self) -> dict[int, Term]:
        """Codes of the classes that have them."""
        return read_terms(self.terminology)

    @property
    def mask_names(self) -> dict[int, list[str]]:
        """For each class one value that a mask has it as, and by what segments of DICOM objects are recognised."""
        known = list_known_names(self.labels, self.terms)
        if not self.label_values:
            return known
        first = {label: value for value, label in sorted(self.label_values.items(), reverse=True)}
        return {first[label]: texts for label, texts in known.items() if label in first}

    @property
    def image_dims(self) -> int:
        """Axes of an image: 3 for a volume, which a 2D network may take slice by slice."""
        return 3 if self.slicewise else self.spatial_dims

    @property
    def out_channels(self) -> int:
        """Channels of the network's output."""
        return 1 if self.activation == "sigmoid" else len(self.labels)

    @property
    def mask_values(self) -> tuple[int, ...]:
        """The values that a mask may hold."""
        return tuple(sorted(self.label_values or self.labels))

    def form(self, name: str) -> Settings:
        """These settings in another of their forms; an empty name leaves them as they are."""
        changes = dict(self.forms[name]) if name else {}
        for key in ("network", "augmentation"):
            changes[key] = {**getattr(self, key), **changes.get(key, {})}
        return replace(self, **changes, forms={}, shipped="")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.patch_voxels)

    def _check_terminology(self) -> None:
        try:
            is_of_labels = set(self.terms) <= set(self.labels) - {0}
        except ValueError as error:
            raise UsageError("SETTING_INVALID", f"{self.name}: terminology", str(error), "correct it") from error
        self._require(is_of_labels, "terminology", "must be of the labels above 0")

    def _require_one_of(self, key: str, choices: tuple[str, ...]) -> None:
        self._require(getattr(self, key) in choices, key, f"is one of {', '.join(choices)}")

    def _require(self, holds: bool, key: str, rule: str) -> None:
        if not holds:
            raise UsageError("SETTING_INVALID", f"{self.name}: {key}", f"{getattr(self, key)!r}: {rule}", "correct it")


def read_settings(path: Path) -> Settings:
    """The settings in a YAML file, laid over those of ``shared/<extends>.yaml`` where it names one.

    Raises:
        UsageError: A key is unknown or missing, or a value is not allowed.
    """
    given: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf8"))
    if shared := given.pop("extends", None):
        base = yaml.safe_load((path.parent / "shared" / f"{shared}.yaml").read_text(encoding="utf8"))
        given = {**base, **given}
    known = [item.name for item in fields(Settings)]
    check_known("SETTING_UNKNOWN", given, known, path.name)
    for form, changes in given.get("forms", {}).items():
        check_known("SETTING_UNKNOWN", changes, known, f"{path.name}: {form}")
        given["forms"][form] = _with_tuples(changes)
    required = {f.name for f in fields(Settings) if f.default is MISSING and f.default_factory is MISSING}
    if missing := required - set(given):
        raise UsageError("SETTING_MISSING", path.name, f"{', '.join(sorted(missing))} not given", "add them")
    return Settings(**_with_tuples(given))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
