"""What an exported bundle says of itself: `exported.json`, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.settings import ACTIVATIONS
from medseg.data.terminology import Term, dump_terms, read_terms
from medseg.errors import BundleError, first_line
from medseg.files import write_json
from medseg.inference.prediction import EXPORT_NAME
from medseg.inference.steps.numpy_steps import BEFORE, LATER, Step, check_steps
from medseg.inference.windows import WindowPlan
from medseg.options import TARGETS

FORMAT = 1
"""Goes up when a reader of an earlier medseg would misunderstand the file."""

NETWORK_FILES = {
    "torchscript": ("network.pt",),
    "onnx": ("network.onnx",),
    "openvino": ("network.xml", "network.bin"),
}
BLENDING_MODES = ("constant", "gaussian")
PADDING_MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Description:
    """An exported bundle without its network.

    Args:
        name: Name of the bundle that was exported.
        version: Version that its metadata said.
        weights_sha256: Checksum of its weights file.
        to: What the network was exported to, one of TARGETS.
        channels: Names of the input channels.
        labels: Name of each output value.
        terms: Codes of the labels, where they are known.
        preprocessing: Steps from the image as it is read to the network's input.
        window: The windows.
        activation: From logits to probabilities, one of ACTIVATIONS.
        threshold: Least score of a sigmoid's single channel; None: the likeliest class is taken.
        later: Steps on the labels.
        air: What air is in a prepared image of Hounsfield units; None: not known.
        files: The sha256 of each file of the network.
        made_by: The version of medseg that exported it.
        pass_bytes: The most that intermediate results of a window take at once, as PyTorch has them; 0: not known.
    """

    name: str
    version: str
    weights_sha256: str
    to: str
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    preprocessing: tuple[Step, ...]
    window: WindowPlan
    activation: str
    threshold: float | None
    later: tuple[Step, ...] = ()
    terms: Mapping[int, Term] = field(default_factory=dict)
    air: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    made_by: str = medseg.__version__
    pass_bytes: int = 0

    @property
    def scores(self) -> int:
        """Channels that the network gives."""
        return 1 if self.activation == "sigmoid" else len(self.labels)

    def __post_init__(self) -> None:
        _require(self.to in TARGETS, f"exported to {self.to!r}")
        _require(self.activation in ACTIVATIONS, f"activation {self.activation!r}")
        _require(
            (self.activation == "sigmoid") == (self.threshold is not None), "a sigmoid, and only it, has a threshold"
        )
        _require(list(self.labels) == list(range(len(self.labels))) and len(self.labels) > 1, "labels count from 0")
        _require(bool(self.channels), "there is no channel")
        _require(type(self.pass_bytes) is int and self.pass_bytes >= 0, f"a pass takes {self.pass_bytes!r} bytes")
        _check_window(self.window)
        check_steps(self.preprocessing, BEFORE)
        check_steps(self.later, LATER)


def write_description(description: Description, folder: Path) -> None:
    """Write `exported.json` into a folder that holds the network's files, with their checksums."""
    files = {name: _sha256(folder / name) for name in NETWORK_FILES[description.to]}
    plain = asdict(description)
    named = {"name": description.name, "version": description.version, "weights_sha256": description.weights_sha256}
    kept = ("to", "channels", "preprocessing", "window", "activation", "threshold", "later", "air", "pass_bytes")
    content = {
        "format": FORMAT,
        "medseg": description.made_by,
        "bundle": named,
        **{key: plain[key] for key in kept},
        "labels": {str(value): name for value, name in description.labels.items()},
        "terminology": dump_terms(description.terms),
        "files": files,
    }
    write_json(content, folder / EXPORT_NAME)


def read_description(folder: Path) -> Description:
    """Read `exported.json` and hold the network's files against it.

    Raises:
        BundleError: EXPORT_UNREADABLE: it is not as medseg writes it; EXPORT_ALTERED: a file is not the one
            that was exported.
    """
    path = folder / EXPORT_NAME
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r} is not {FORMAT}, which this medseg reads")
        description = _parsed(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError("EXPORT_UNREADABLE", path, first_line(error)) from error
    _check_files(folder, description)
    return description


def _parsed(content: Mapping[str, Any]) -> Description:
    made_of, window = content["bundle"], content["window"]
    per_axis = {key: tuple(window[key]) for key in ("roi", "overlap", "sigma_scale")}
    return Description(
        name=str(made_of["name"]),
        version=str(made_of["version"]),
        weights_sha256=str(made_of["weights_sha256"]),
        to=content["to"],
        channels=tuple(map(str, content["channels"])),
        labels={int(value): str(name) for value, name in content["labels"].items()},
        preprocessing=tuple(content["preprocessing"]),
        window=WindowPlan(**{**window, **per_axis}),
        activation=content["activation"],
        threshold=content["threshold"],
        later=tuple(content["later"]),
        air=None if content["air"] is None else float(content["air"]),
        terms=read_terms(content["terminology"]),
        files=dict(content["files"]),
        made_by=str(content["medseg"]),
        pass_bytes=content.get("pass_bytes", 0),  # Earlier exports do not say.
    )


def _check_window(window: WindowPlan) -> None:
    axes = len(window.roi)
    _require(axes in (2, 3) and all(_is_count(size) for size in window.roi), f"windows of {window.roi}")
    shares = window.overlap
    _require(len(shares) == axes and all(0 <= each < 1 for each in shares), f"overlap {shares}")
    _require(len(window.sigma_scale) == axes and all(each > 0 for each in window.sigma_scale), f"{window.sigma_scale}")
    _require(_is_count(window.batch), f"batches of {window.batch}")
    _require(window.mode in BLENDING_MODES, f"blending {window.mode!r}")
    _require(window.padding_mode in PADDING_MODES, f"padding {window.padding_mode!r}")
    _require(window.slice_axis is None or window.slice_axis in range(axes), f"slices across {window.slice_axis!r}")


def _check_files(folder: Path, description: Description) -> None:
    for name in NETWORK_FILES[description.to]:
        path = folder / name
        if not path.is_file():
            raise BundleError("EXPORT_ALTERED", path, "there is no such file", "export the bundle again")
        if _sha256(path) != description.files.get(name):
            problem = "it is not the file that was exported: its sha256 differs"
            raise BundleError("EXPORT_ALTERED", path, problem, "copy or export the bundle again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _is_count(number: Any) -> bool:
    return type(number) is int and number > 0


def _require(is_so: bool, told: str) -> None:
    if not is_so:
        raise ValueError(f"not as medseg writes it: {told}")
