"""Every option of a verb, once: type, default, choices, help, and what is refused.

They hold from Python and on the command line alike; ``medseg.commands`` adds what is typed around them, and
``medseg.cli`` makes its parsers of both. A field's help is its description. Nothing is imported here but the standard
library and the errors, so that help comes at once.
"""

# ruff: noqa: RUF009 - `option` is dataclasses.field with the words of argparse, and shares no state.
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from medseg.errors import UsageError, check_known

if TYPE_CHECKING:
    from medseg.data.splits import Split

BACKENDS = ("auto", "torch", "compile", "openvino", "onnx", "tensorrt")
DEVICES = ("auto", "cpu", "cuda")
DICOM_SEG = "dicom-seg"
MASK_FORMATS = ("image", DICOM_SEG)
SEG_TYPES = ("binary", "labelmap")
TARGETS = ("torchscript", "onnx", "openvino")
"""What an exported bundle's network can be exported to."""

NO_LOCATOR = "none"
"""In place of a locator: none, also where the bundle names one."""

MOST_MARGIN_MM = 10_000
"""More than any scanner sees."""

SERIES_NAME = re.compile(r"[\d.]+(?::\d+)?|:\d+", re.ASCII)
"""What names a DICOM series of a folder: its number or the end of its UID, and perhaps ``:N``, stack N in it."""

SPLIT_PARTS = ("train", "validation", "test")
"""The parts of a split."""

Missing = Literal["zero", "skip", "error"]
MISSING_CHOICES: tuple[str, ...] = get_args(Missing)
SLICE_AXES = (0, 1, 2)

FORM = "another form of the bundle, such as small"
NEW_SPLIT = "draw a split instead of using the bundle's own"


NUMBERS: Mapping[str, type] = {"N": int, "AXIS": int, "SHARE": float, "MM": float}
"""What stands for a number in the help, and its type."""


def option(default: Any, typed: str, text: str, **words: Any) -> Any:
    """A field that is an option of the command line.

    Args:
        default: Its default, or ``dict`` for an empty one; MISSING where it must be given.
        typed: How it is typed, ``--overlap SHARE``. What stands for the value says how that is read: one of NUMBERS,
            one of ``medseg.cli.NOTATIONS``, or as it is.
        text: Its help.
        **words: What argparse is told besides, such as ``choices``; ``const`` is the value where none is typed.
    """
    flag, _, metavar = typed.partition(" ")
    words |= {"flag": flag, "help": text} | ({"metavar": metavar} if metavar else {})
    if default is False:
        words["action"] = "store_true"
    if default is MISSING:
        words["required"] = True
    if metavar in NUMBERS:
        words["type"] = NUMBERS[metavar]
    if "const" in words:
        words["nargs"] = "?"
    return field(default_factory=default, metadata=words) if default is dict else field(default=default, metadata=words)


@dataclass(frozen=True)
class PredictOptions:
    """How a network is run over a case. In Python ``max_ram`` is a number of bytes.

    Raises:
        UsageError: NAME_UNKNOWN or SETTING_INVALID.
    """

    device: str = option("auto", "--device", "where to run (default: a GPU where there is one)", choices=DEVICES)
    amp: bool = option(False, "--amp", "run the network in 16-bit floats (float16 on a GPU, bfloat16 on a CPU)")
    tta: bool = option(False, "--tta", "average over mirrored images, as the bundle was trained")
    overlap: float | None = option(
        None, "--overlap SHARE", "share of a window that the next covers again, 0 to below 1 (default: the bundle's)"
    )
    probabilities: bool = option(False, "--probabilities", "write the class probabilities on the image's grid as well")
    backend: str = option("auto", "--backend", "what runs the network (default: auto)", choices=BACKENDS)
    series: str | None = option(
        None,
        "--series SUFFIX",
        "DICOM series of a folder with several: its number, or the end of its UID; :N for a stack in it",
    )
    max_ram: int | None = option(
        None, "--max-ram SIZE", "most memory for one image and what is made of it, such as 4G; else what is free"
    )
    mask_format: str = option(
        "image", "--format", "masks in their images' format, or DICOM SEG for DICOM series", choices=MASK_FORMATS
    )
    seg_type: str = option("binary", "--seg-type", "how a DICOM SEG holds the mask", choices=SEG_TYPES)
    crop: bool = option(
        False, "--crop", "run the box around the patient alone, where nothing is found in air and padding (quicker)"
    )
    locator: str | Path | None = option(
        None,
        "--locator BUNDLE",
        "coarse bundle (folder or name) that finds where to look, or none (default: the bundle's)",
    )
    locator_margin_mm: float | None = option(
        None, "--locator-margin MM", "millimetres kept around what it finds (default: the bundle's, or 20)"
    )
    threads: int | None = option(
        None, "--threads N", "threads of the network's passes on the CPU (default: PyTorch's, or timed for large cases)"
    )

    def __post_init__(self) -> None:
        check_backend(self.backend)
        if self.device not in DEVICES:
            raise UsageError("NAME_UNKNOWN", self.device, "not a device", f"choose one of {', '.join(DEVICES)}")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError("SETTING_INVALID", self.overlap, "not from 0 to below 1", "give a share such as 0.5")
        check_series(self.series)
        check_max_ram(self.max_ram)
        if self.crop and self.probabilities:
            problem = "what is not run has no probabilities"
            raise UsageError("SETTING_INVALID", "crop", problem, "leave --crop or --probabilities out")
        if self.locator_margin_mm is not None and not is_margin(self.locator_margin_mm):
            problem = f"{self.locator_margin_mm} are no millimetres from 0"
            raise UsageError("SETTING_INVALID", "locator_margin_mm", problem, "give millimetres such as 20")
        if self.threads is not None and self.threads < 1:
            raise UsageError("SETTING_INVALID", "threads", f"{self.threads} is no number from 1", "give 1 or more")
        if self.locator is not None:
            object.__setattr__(self, "locator", str(self.locator))  # As a record can hold it.
        check_known("SETTING_INVALID", [self.mask_format], MASK_FORMATS, "mask_format")
        check_known("SETTING_INVALID", [self.seg_type], SEG_TYPES, "seg_type")
        if self.seg_type != SEG_TYPES[0] and self.mask_format != DICOM_SEG:
            problem = f"{self.seg_type} is a kind of {DICOM_SEG}"
            raise UsageError("SETTING_INVALID", "seg_type", problem, f"add --format {DICOM_SEG}")


def check_backend(name: str) -> None:
    """Refuse a name that is none of BACKENDS.

    Raises:
        UsageError: NAME_UNKNOWN.
    """
    if name not in BACKENDS:
        raise UsageError("NAME_UNKNOWN", name, "no such backend", f"choose one of {', '.join(BACKENDS)}")


def check_series(name: str | None) -> None:
    """Refuse what cannot name a DICOM series; None names none.

    Raises:
        UsageError: SETTING_INVALID.
    """
    if name is not None and not SERIES_NAME.fullmatch(name):
        remedy = "give digits and dots, and :N for a stack"
        raise UsageError("SETTING_INVALID", name, "no number and no end of a UID", remedy)


def check_max_ram(count: int | None) -> None:
    """Refuse a number of bytes that holds no image; None stands for what is free.

    Raises:
        UsageError: SETTING_INVALID.
    """
    if count is not None and count < 1:
        raise UsageError("SETTING_INVALID", count, "no number of bytes above 0", "give a size such as 4G")


def is_margin(value: object) -> bool:
    """Whether a value is a number of millimetres from 0 to MOST_MARGIN_MM."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_MARGIN_MM


@dataclass(frozen=True)
class TrainOptions:
    """What a training changes in its bundle's own configuration.

    ``network`` is a key of ``medseg.networks.NETWORKS`` or one of MONAI's networks by name, ``loss`` a key of
    ``medseg.losses.LOSSES``; ``settings`` name nested keys as ``a::b``. A form is laid over the bundle's configuration
    before all other changes.

    Args:
        split: The split to train on; it names every case of the data set. For Python alone.

    Raises:
        UsageError: SETTING_INVALID, or RESUME_SETTING: a run under way keeps its split and form.
    """

    epochs: int | None = option(None, "--epochs N", "epochs in all")
    network: str | None = option(
        None, "--network NAME", "unet, res-unet, attention-unet, attention-res-unet, or MONAI's"
    )
    loss: str | None = option(None, "--loss NAME", "dice-ce, focal, dice-focal, unified-focal, tversky, …")
    settings: Mapping[str, Any] = option(
        dict,
        "--set KEY=VALUE",
        "any key of the bundle's configs/train.json, such as learning_rate=0.001",
        action="append",
    )
    resume: bool = option(False, "--resume", "go on with the run in the output folder")
    new_split: bool = option(False, "--new-split", NEW_SPLIT)
    form: str | None = option(None, "--form NAME", FORM)
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


@dataclass(frozen=True)
class EvaluateOptions:
    """How masks are compared with their references.

    Args:
        labels: Name of each value; otherwise from a dataset.json in or above the references,
            from the record that `medseg predict` left beside the masks, from the references' data
            set where its layout says, or ``class 1`` …. For Python alone.
        held_out: Split, or its JSON file, or the names of the test cases; adds a column and a table per part. On the
            command line also a bundle's name.
        background: Value 0 counts among the lowest scores, and in a mean beside the foreground's.
        slices: Axis (from 0) of the stored reference along which every slice is a case, ``case7#012``.
        renamed: Values of the references to read as others, such as ``{4: 3}``.

    Raises:
        UsageError: NAME_UNKNOWN, or SETTING_INVALID where there is no such axis.
    """

    labels: Mapping[int, str] | None = None
    held_out: Split | Collection[str] | str | Path | None = option(
        None, "--held-out SPLIT", "a split.json, or a bundle's name: mark its test cases"
    )
    missing: Missing = option(
        "zero", "--missing", "what a reference without a mask counts (default: zero)", choices=MISSING_CHOICES
    )
    background: bool = option(False, "--background", "count value 0 as a class, with a mean over all")
    slices: int | None = option(None, "--slices AXIS", "score every slice along an axis (default: 2)", const=2)
    renamed: Mapping[int, int] = option(
        dict, "--map VALUE=CLASS", "read a value of the references as another, such as 4=3", action="append"
    )

    def __post_init__(self) -> None:
        if self.missing not in MISSING_CHOICES:
            choices = ", ".join(MISSING_CHOICES)
            raise UsageError("NAME_UNKNOWN", "missing", f"{self.missing!r}", f"choose one of {choices}")
        if self.slices is not None and (type(self.slices) is not int or self.slices not in SLICE_AXES):
            raise UsageError("SETTING_INVALID", "slices", f"{self.slices!r} is no axis", "give 0, 1 or 2")

    def to_record(self) -> dict[str, str]:
        """What was asked for beyond a plain comparison of whole cases, and what a missing mask counts."""
        asked = {"missing": str(self.missing)}
        asked |= {"background": "a class as well"} if self.background else {}
        asked |= {"slices": f"along axis {self.slices}"} if self.slices is not None else {}
        told = ", ".join(f"{old}={new}" for old, new in self.renamed.items())
        return asked | ({"renamed": told} if told else {})


@dataclass(frozen=True)
class CheckOptions:
    """What a data set is held against, and whether a corrected copy is made. In Python ``max_ram`` is in bytes.

    Raises:
        UsageError: SETTING_INVALID, or SETTING_MISSING: only a copy is straightened.
    """

    bundle: str | Path | None = option(None, "--bundle BUNDLE", "whose labels and channels the data should have")
    split: str | Path | None = option(None, "--split SPLIT", "a split.json: look for patients and images in two parts")
    series: str | None = option(
        None, "--series SUFFIX", "DICOM series of a folder: its number or end of its UID; :N for stack N"
    )
    max_ram: int | None = option(None, "--max-ram SIZE", "most memory for one image, such as 4G; else what is free")
    fix: str | Path | None = option(None, "--fix OUT", "write a copy there with all corrected that is certain")
    straighten: bool = option(False, "--straighten", "with --fix: resample sheared volumes onto perpendicular axes")

    def __post_init__(self) -> None:
        check_series(self.series)
        check_max_ram(self.max_ram)
        if self.straighten and self.fix is None:
            problem = "straightening resamples, so it is done in a copy only, and none is asked for"
            raise UsageError("SETTING_MISSING", "straighten", problem, "say where the copy goes: --fix OUT")
