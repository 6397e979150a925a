"""Reading a bundle: its network with weights, the chain before and behind it, and the locator that it names."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import find_bundle, find_config, find_shipped, merge_files
from medseg.bundle.trust import ALLOW_CODE, SECTIONS, select_sections
from medseg.data.terminology import Term, read_terms
from medseg.errors import BundleError, first_line
from medseg.findings import is_allowed
from medseg.options import MOST_MARGIN_MM, is_margin

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser
    from monai.inferers import Inferer
    from monai.transforms import Compose

MARGIN_MM = 20.0
"""Kept around what a locator finds: two or three of its voxels, and eight of a network's at 2.5 mm, as for air."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, ready to predict.

    Args:
        root: The bundle's folder.
        version: The bundle's version, as its metadata says.
        network: On the CPU, in evaluation mode, weights loaded strictly.
        preprocessing: Steps from ``{"image": path or paths}`` to the network's input, channel first.
        inferer: Runs the network over windows.
        postprocessing: Steps from logits to labels on the image's own grid.
        channels: Names of the input channels.
        labels: Name of each output value.
        spatial_dims: 2 or 3.
        mirror_axes: Axes along which the training mirrored images.
        weights_sha256: Hash of the weights file.
        terms: Codes of the labels, where the metadata give them.
        is_hounsfield: Whether the metadata say that images hold Hounsfield units.
        locator: The bundle that it names for finding where to look, see ``medseg.bundle.load``; None: it looks
            everywhere.
        locator_margin_mm: Kept around what that finds.
    """

    root: Path
    version: str
    network: torch.nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: Compose
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    spatial_dims: int
    mirror_axes: tuple[int, ...]
    weights_sha256: str
    terms: Mapping[int, Term] = field(default_factory=dict)
    is_hounsfield: bool = False
    locator: str | None = None
    locator_margin_mm: float = MARGIN_MM

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name


def running_root() -> str:
    """The bundle whose configuration MONAI's command line is running; the working folder elsewhere.

    Lets ``python -m monai.bundle run --config_file BUNDLE/configs/train.json`` work from any folder.
    """
    for position, word in enumerate(sys.argv):
        name, _, value = word.partition("=")
        if name == "--config_file":
            files = value or " ".join(sys.argv[position + 1 : position + 2])
            first = Path(files.strip("[]() ").split(",")[0].strip("'\" "))
            return str(first.resolve().parent.parent if first.parent.name == "configs" else first.resolve().parent)
    return "."


def open_bundle(name: str | Path, allow: Collection[str] = ()) -> Bundle:
    """Read a bundle without running its code.

    Args:
        name: A bundle's folder or a shipped bundle's name.
        allow: Error codes accepted knowingly; BUNDLE_RUNS_CODE lets its expressions run.

    Raises:
        BundleError: It is not found or incomplete, would run code, or its weights do not fit.
    """
    from monai.bundle import ConfigParser

    root = find_bundle(name)
    allow_code = is_allowed(ALLOW_CODE, allow)
    source, config = _read(root, "inference")
    described_in, meta = _read(root, "metadata")
    if allow_code:
        config = {**config, "bundle_root": str(root)}
        sys.path.insert(0, str(root))
    parser = ConfigParser(select_sections(config, source, allow_code))
    built = {section: build_section(parser, section, source) for section in SECTIONS}
    locator, margin_mm = read_locator(config, source)
    weights = root / "models" / "model.pt"
    image = _tensor_format(meta, "inputs", "image", described_in)
    pred = _tensor_format(meta, "outputs", "pred", described_in)
    return Bundle(
        root=root,
        version=str(meta.get("version", "unknown")),
        network=load_weights(built["network_def"], weights),
        preprocessing=_chain(built["preprocessing"]),
        inferer=built["inferer"],
        postprocessing=_chain(built["postprocessing"]),
        channels=_names(image, "channel "),
        labels=_labels(pred, meta),
        spatial_dims=len(image["spatial_shape"]),
        mirror_axes=_mirror_axes(config, len(image["spatial_shape"]), source),
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        terms=_terms(meta, described_in),
        is_hounsfield=image.get("format") == "hounsfield",
        locator=locator,
        locator_margin_mm=margin_mm,
    )


def load_weights(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """``network`` with the weights of ``path``, in evaluation mode; every tensor must fit.

    Raises:
        BundleError: The file is missing, holds anything but tensors, does not fit or is not finite.
    """
    import torch

    if not path.is_file():
        raise BundleError("WEIGHTS_MISSING", path, "there is no such file")
    state = read_tensors(path, "not a file of tensors", "fetch or save it again")
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(network, torch.nn.Module):
        raise BundleError("BUNDLE_UNREADABLE", path, "its network_def is no network", "name a network there")
    _check_fits(network.state_dict(), state, path)
    network.load_state_dict(state)
    return network.eval()


def read_tensors(path: Path, problem: str, remedy: str) -> Any:
    """What a file of PyTorch holds, on the CPU; nothing but tensors and plain values is read.

    Raises:
        BundleError: WEIGHTS_UNREADABLE, with the problem and the remedy.
    """
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BundleError("WEIGHTS_UNREADABLE", path, f"{problem} ({first_line(error)})", remedy) from error


def _check_fits(expected: Mapping[str, Any], state: Any, path: Path) -> None:
    import torch

    def is_plain(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_complex()

    if not isinstance(state, Mapping) or not all(map(is_plain, state.values())):
        raise BundleError("WEIGHTS_UNREADABLE", path, "not a table of tensors", "save a plain state_dict")
    wrong = [f"missing {key}" for key in expected if key not in state]
    wrong += [f"unknown {key}" for key in state if key not in expected]
    wrong += [
        f"{key} is {tuple(state[key].shape)} {state[key].dtype}, not {tuple(value.shape)} {value.dtype}"
        for key, value in expected.items()
        if key in state
        and (state[key].shape != value.shape or state[key].is_floating_point() != value.is_floating_point())
    ]
    if wrong:
        raise BundleError(
            "WEIGHTS_MISMATCH",
            path,
            f"{len(wrong)} tensors do not fit the network: {'; '.join(wrong[:3])}",
        )
    broken = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise BundleError("WEIGHTS_NONFINITE", path, f"NaN or Inf in {broken[0]}")


def _read(root: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    path = find_config(root, kind)
    if not path.is_file():
        problem = f"there is no configs/{kind}.json"
        raise BundleError("BUNDLE_INCOMPLETE", root, problem, "add it, or use another bundle")
    return path, merge_files(path)


def build_section(parser: ConfigParser, section: str, source: Path) -> Any:
    """What a section of a configuration describes.

    Args:
        parser: A parser of the configuration, as ``medseg.bundle.trust.select_sections`` gives it.
        section: One of its keys.
        source: The file, named in errors.

    Raises:
        BundleError: BUNDLE_UNREADABLE, the section cannot be built.
    """
    try:
        return parser.get_parsed_content(section, instantiate=True)
    except (RuntimeError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        cause = first_line(error.__cause__ or error)
        raise BundleError("BUNDLE_UNREADABLE", f"{source}: {section}", cause, "correct that section") from error


def _chain(built: Any) -> Compose:
    from monai.transforms import Compose

    return built if isinstance(built, Compose) else Compose(built)


def _tensor_format(meta: Mapping[str, Any], direction: str, key: str, source: Path) -> Mapping[str, Any]:
    """A tensor's description in the metadata, with the types that are relied on."""
    try:
        tensor = meta["network_data_format"][direction][key]
        is_usable = (
            isinstance(tensor["num_channels"], int)
            and isinstance(tensor["spatial_shape"], list)
            and len(tensor["spatial_shape"]) in {2, 3}
            and isinstance(tensor.get("channel_def", {}), dict)
        )
    except (KeyError, TypeError, AttributeError):
        is_usable = False
    if not is_usable:
        raise BundleError(
            "BUNDLE_INCOMPLETE",
            source,
            f"network_data_format.{direction}.{key} has no num_channels, spatial_shape or channel_def to go by",
            "describe the network's input and output there",
        )
    return tensor


def _names(tensor: Mapping[str, Any], otherwise: str) -> tuple[str, ...]:
    named = tensor.get("channel_def", {})
    return tuple(str(named.get(str(index), f"{otherwise}{index}")) for index in range(tensor["num_channels"]))


def _labels(pred: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[int, str]:
    """Name of each value of a mask; a single output channel is a foreground class."""
    names = _names(pred, "class ")
    if len(names) > 1:
        return dict(enumerate(names))
    stated = meta.get("labels")
    background = stated.get("0", "background") if isinstance(stated, Mapping) else "background"
    return {0: str(background), 1: names[0]}


def _terms(meta: Mapping[str, Any], source: Path) -> dict[int, Term]:
    try:
        return read_terms(meta.get("terminology", {}))
    except ValueError as error:
        raise BundleError("BUNDLE_UNREADABLE", source, str(error), "correct it, or leave terminology out") from error


def _mirror_axes(config: Mapping[str, Any], spatial_dims: int, source: Path) -> tuple[int, ...]:
    axes = config.get("mirror_axes", [])
    if not isinstance(axes, list) or not all(axis in range(spatial_dims) for axis in axes):
        raise BundleError(
            "BUNDLE_UNREADABLE", f"{source}: mirror_axes", f"{axes!r} are no axes", "list numbers from 0, such as [0]"
        )
    return tuple(axes)


_KEY, _MARGIN_KEY = "locator", "locator_margin_mm"


def read_locator(config: Mapping[str, Any], source: object) -> tuple[str | None, float]:
    """The locator that an inference configuration names, and the margin in mm.

    Both are taken as they stand and never evaluated, whatever is allowed.

    Args:
        config: The configuration as plain values.
        source: The configuration's file, named in errors.

    Returns:
        None where it names no locator, and MARGIN_MM where it states no margin.

    Raises:
        BundleError: BUNDLE_UNREADABLE.
    """
    name, margin_mm = config.get(_KEY), config.get(_MARGIN_KEY, MARGIN_MM)
    if name is not None and (not isinstance(name, str) or not name or name[0] in "$@%"):
        raise _refuse_value(f"{source}: {_KEY}", name, "name a folder of the bundle, or a shipped bundle")
    if not is_margin(margin_mm):
        raise _refuse_value(f"{source}: {_MARGIN_KEY}", margin_mm, f"give millimetres from 0 to {MOST_MARGIN_MM}")
    return name, float(margin_mm)


def place_locator(root: Path, name: str) -> Path:
    """Where a bundle's own locator would lie.

    Args:
        root: The bundle's folder.
        name: What its configuration names.

    Raises:
        BundleError: BUNDLE_UNREADABLE: it lies outside the bundle, or is the bundle itself.
    """
    inside = (root / name).resolve()
    if root.resolve() not in inside.parents:
        raise _refuse_value(f"{root}: {_KEY}", name, "name a folder of the bundle, or a shipped bundle")
    return inside


def find_locator(root: Path, name: str) -> Path:
    """The folder of the locator that a bundle names: inside its own folder, or of a bundle that medseg ships.

    Args:
        root: The bundle's folder.
        name: What its configuration names.

    Raises:
        BundleError: BUNDLE_NOT_FOUND; BUNDLE_UNREADABLE: it lies outside the bundle.
    """
    inside = place_locator(root, name)
    return inside if (inside / "configs").is_dir() else find_shipped(name)


def check_fits(locator: Bundle, bundle: Bundle) -> None:
    """Refuse a locator that does not take a bundle's images.

    Raises:
        BundleError: LOCATOR_UNFIT.
    """
    if len(locator.channels) != len(bundle.channels) or count_image_axes(locator) != count_image_axes(bundle):
        raise refuse_locator(locator, f"takes {_tell_images(locator)}, and {bundle.name} takes {_tell_images(bundle)}")
    if locator.is_hounsfield != bundle.is_hounsfield:
        taking, other = (locator, bundle) if locator.is_hounsfield else (bundle, locator)
        raise refuse_locator(locator, f"{taking.name} takes Hounsfield units, and {other.name} does not")


def refuse_locator(locator: Bundle, problem: str) -> BundleError:
    """The refusal of a locator."""
    return BundleError("LOCATOR_UNFIT", locator.root, problem)


def count_image_axes(bundle: Bundle) -> int:
    """Spatial axes of the images that a bundle takes; of volumes 3, also where it takes them slice by slice."""
    from monai.inferers import SliceInferer

    return 3 if isinstance(bundle.inferer, SliceInferer) else bundle.spatial_dims


def _tell_images(bundle: Bundle) -> str:
    return f"{count_image_axes(bundle)}D images of {len(bundle.channels)} channel(s) ({', '.join(bundle.channels)})"


def _refuse_value(place: str, value: object, remedy: str) -> BundleError:
    return BundleError("BUNDLE_UNREADABLE", place, f"{value!r} cannot stand there", remedy)
