"""Export a bundle: its network in another runtime's format, and all that stands before and behind it described."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medseg.bundle.load import Bundle, open_bundle
from medseg.errors import BundleError, OutputError, check_known, first_line
from medseg.inference.export_check import check_network, check_pipeline, plan_batches
from medseg.inference.prediction import EXPORT_NAME
from medseg.inference.runtimes.conversion import convert_to_onnx, save_openvino_model
from medseg.inference.runtimes.exported_network import check_runtime
from medseg.inference.runtimes.graph import FAILURES
from medseg.inference.runtimes.network_runner import measure_footprint
from medseg.inference.steps.description import NETWORK_FILES, Description, read_description, write_description
from medseg.inference.steps.monai_steps import find_air_value, read_discretisation
from medseg.inference.steps.translate import (
    refuse,
    require,
    translate_label_steps,
    translate_preprocessing,
    translate_windows,
)
from medseg.inference.windows import Windowing
from medseg.options import TARGETS


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Args:
        folder: The exported bundle.
        description: What it says of itself.
        logits_apart: Largest difference from PyTorch's logits of a noise window, as a share of their largest.
        equal: Least share of a phantom's voxels with the bundle's labels, run whole and cropped.
        bytes: Size of all its files together.
    """

    folder: Path
    description: Description
    logits_apart: float
    equal: float
    bytes: int


def export(
    bundle: str | Path,
    output: str | Path,
    *,
    to: str,
    allow: Collection[str] = (),
    on_step: Callable[[str], None] | None = None,
) -> Exported:
    """Export a bundle as a folder that `medseg predict` takes in the bundle's place.

    The folder appears only when the exported network and the whole pipeline have been compared with the bundle.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        output: The folder; made, and refused where it is there already.
        to: ``torchscript``, ``onnx`` or ``openvino``.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE.
        on_step: Called with each step's name as it begins.

    Raises:
        UsageError: ``NAME_UNKNOWN``, ``PACKAGE_MISSING``.
        BundleError: The bundle is refused; EXPORT_UNSUPPORTED, EXPORT_FAILED or EXPORT_DISAGREES.
        OutputError: OUTPUT_EXISTS or OUTPUT_UNWRITABLE.
    """
    tell = on_step or (lambda step: None)
    check_known("NAME_UNKNOWN", [to], TARGETS)
    check_runtime(to)
    folder = Path(output)
    if folder.exists():
        raise OutputError("OUTPUT_EXISTS", folder, "is there already", "give the name of a new folder")
    tell("reading the bundle")
    opened = open_bundle(bundle, allow)
    description = describe(opened, to)
    waiting = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        waiting.mkdir(parents=True)
        tell(f"converting the network to {to}")
        _write_network(opened, description, waiting)
        write_description(description, waiting)
        tell("comparing the network's logits with PyTorch's")
        apart = check_network(opened, waiting)
        tell("comparing the masks of a phantom with the bundle's")
        equal = check_pipeline(opened, waiting)
        waiting.replace(folder)
    except OSError as error:
        raise OutputError("OUTPUT_UNWRITABLE", folder, first_line(error), "give another output folder") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    written = sum((folder / name).stat().st_size for name in (EXPORT_NAME, *NETWORK_FILES[to]))
    return Exported(folder, read_description(folder), apart, equal, written)


def describe(bundle: Bundle, to: str) -> Description:
    """What an exported bundle will say of itself, but for the checksums of its files.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the part that has no exact counterpart.
    """
    how = read_discretisation(bundle.postprocessing)
    if how is None:
        raise refuse("postprocessing", "it is not activation, Invertd, AsDiscreted and steps on labels")
    require(bundle.locator is None, "locator", "it runs one network, over all of an image")
    window = translate_windows(bundle.inferer, bundle.spatial_dims)
    try:
        return Description(
            name=bundle.name,
            version=bundle.version,
            weights_sha256=bundle.weights_sha256,
            to=to,
            channels=bundle.channels,
            labels=bundle.labels,
            preprocessing=translate_preprocessing(bundle.preprocessing, len(window.roi)),
            window=window,
            activation=how.activation,
            threshold=how.threshold,
            later=translate_label_steps(how.later),
            terms=bundle.terms,
            air=find_air_value(bundle.preprocessing) if bundle.is_hounsfield else None,
            pass_bytes=measure_footprint(bundle.network, (len(bundle.channels), *window.network_roi)).live_bytes,
        )
    except ValueError as error:
        raise refuse("bundle", str(error)) from error


def _write_network(bundle: Bundle, description: Description, folder: Path) -> None:
    try:
        _WRITERS[description.to](bundle.network, plan_batches(description), folder)
    except FAILURES as error:
        problem = f"{description.to} cannot take its network: {first_line(error)}"
        raise BundleError("EXPORT_FAILED", bundle.root, problem) from error


def _write_onnx(network: nn.Module, windowing: Windowing, folder: Path) -> None:
    (folder / "network.onnx").write_bytes(convert_to_onnx(network, windowing))


def _write_openvino(network: nn.Module, windowing: Windowing, folder: Path) -> None:
    save_openvino_model(network, windowing, folder / "network.xml")


def _write_torchscript(network: nn.Module, windowing: Windowing, folder: Path) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.zeros(windowing.shape), check_trace=False)
    torch.jit.save(traced, str(folder / "network.pt"))


_WRITERS: dict[str, Callable[[nn.Module, Windowing, Path], None]] = {
    "torchscript": _write_torchscript,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}
