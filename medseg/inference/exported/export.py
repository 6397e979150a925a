"""Exporting a bundle whole: the network in another runtime's format, and its steps described."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.bundle.load import Bundle, open_bundle
from medseg.bundle.trust import ALLOW_CODE
from medseg.errors import BundleError, OutputError, check_known, first_line
from medseg.inference.exported.phantom import phantom, phantom_size
from medseg.inference.exported.translate import steps_before, steps_later
from medseg.inference.exported.unsupported import need, unsupported
from medseg.inference.exported.window_plan import window_plan
from medseg.inference.options import PredictOptions
from medseg.inference.planning.footprint import footprint
from medseg.inference.predict import open_predictor
from medseg.inference.prediction import EXPORT_NAME
from medseg.inference.region import air_value
from medseg.inference.running.backends import TOLERANCE, largest_difference
from medseg.inference.running.onnx_runtime import onnx_model
from medseg.inference.running.openvino_runtime import openvino_model
from medseg.inference.running.operations import FAILURES
from medseg.inference.runtimes.exported_network import check_runtime, open_network
from medseg.inference.steps.description import NETWORK_FILES, TARGETS, Description, read_description, write_description
from medseg.inference.steps.monai_steps import read_discretisation
from medseg.inference.windows import Windowing

LEAST_EQUAL = 0.9999
"""Share of a phantom's voxels in which the exported bundle must give the bundle's labels."""

PROBABILITY_TOLERANCE = 0.01
"""Largest difference of a probability of the phantom's."""

MOST_SCORES = 5e7
"""Voxels × labels up to which probabilities are compared as well; MONAI holds several arrays of that size."""


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Args:
        folder: Of the exported bundle.
        description: What it says of itself.
        logits_apart: Largest difference from PyTorch's logits of a noise window, as a share of their largest.
        equal: Least share of a phantom's voxels with the bundle's labels, run whole and cropped.
        bytes: Of all files.
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
        UsageError: ``TARGET_UNKNOWN``, ``RUNTIME_MISSING``.
        BundleError: The bundle is refused; EXPORT_UNSUPPORTED, EXPORT_FAILED or EXPORT_DISAGREES.
        OutputError: OUTPUT_EXISTS or OUTPUT_UNWRITABLE.
    """
    tell = on_step or (lambda step: None)
    check_known("TARGET_UNKNOWN", [to], TARGETS)
    check_runtime(to)
    folder = Path(output)
    if folder.exists():
        raise OutputError("OUTPUT_EXISTS", folder, "is there already", "give the name of a new folder")
    tell("reading the bundle")
    opened = open_bundle(bundle, allow)
    description = described(opened, to)
    waiting = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        waiting.mkdir(parents=True)
        tell(f"converting the network to {to}")
        _write_network(opened, description, waiting)
        write_description(description, waiting)
        tell("comparing the network's logits with PyTorch's")
        apart = _check_network(opened, waiting)
        tell("comparing the masks of a phantom with the bundle's")
        equal = _check_pipeline(opened, waiting)
        waiting.replace(folder)
    except OSError as error:
        raise OutputError("OUTPUT_UNWRITABLE", folder, first_line(error), "give another output folder") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    written = sum((folder / name).stat().st_size for name in (EXPORT_NAME, *NETWORK_FILES[to]))
    return Exported(folder, read_description(folder), apart, equal, written)


def described(bundle: Bundle, to: str) -> Description:
    """What an exported bundle will say of itself, but for the checksums of its files.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the part that has no exact counterpart.
    """
    how = read_discretisation(bundle.postprocessing)
    if how is None:
        raise unsupported("postprocessing", "it is not activation, Invertd, AsDiscreted and steps on labels")
    need(bundle.locator is None, "locator", "it runs one network, over all of an image")
    window = window_plan(bundle.inferer, bundle.spatial_dims)
    try:
        return Description(
            name=bundle.name,
            version=bundle.version,
            weights_sha256=bundle.weights_sha256,
            to=to,
            channels=bundle.channels,
            labels=bundle.labels,
            preprocessing=steps_before(bundle.preprocessing, len(window.roi)),
            window=window,
            activation=how.activation,
            threshold=how.threshold,
            later=steps_later(how.later),
            terms=bundle.terms,
            air=air_value(bundle.preprocessing) if bundle.is_hounsfield else None,
            pass_bytes=footprint(bundle.network, (len(bundle.channels), *window.network_roi)).live_bytes,
        )
    except ValueError as error:
        raise unsupported("bundle", str(error)) from error


def _windowing(description: Description) -> Windowing:
    window = description.window
    return Windowing(window.batch, len(description.channels), window.network_roi)


def _write_network(bundle: Bundle, description: Description, folder: Path) -> None:
    try:
        _WRITERS[description.to](bundle.network, _windowing(description), folder)
    except FAILURES as error:
        problem = f"{description.to} cannot take its network: {first_line(error)}"
        raise BundleError("EXPORT_FAILED", bundle.root, problem, "export to another runtime") from error


def _write_onnx(network: torch.nn.Module, windowing: Windowing, folder: Path) -> None:
    (folder / "network.onnx").write_bytes(onnx_model(network, windowing))


def _write_openvino(network: torch.nn.Module, windowing: Windowing, folder: Path) -> None:
    import openvino

    model = openvino_model(network, windowing)
    model.reshape([-1, *windowing.shape[1:]])
    openvino.save_model(model, folder / "network.xml", compress_to_fp16=False)


def _write_torchscript(network: torch.nn.Module, windowing: Windowing, folder: Path) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.zeros(windowing.shape), check_trace=False)
    torch.jit.save(traced, str(folder / "network.pt"))


def _check_network(bundle: Bundle, folder: Path) -> float:
    """The largest difference of the logits, of one window and of a full batch."""
    description = read_description(folder)
    run, windowing = open_network(folder, description), _windowing(description)

    def alone(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(windows.numpy()))

    def in_batch(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(windows.numpy().repeat(windowing.batch, axis=0))[-1:])

    try:
        found = [largest_difference(bundle.network, each, windowing) for each in (alone, in_batch)]
    except FAILURES as error:
        raise BundleError("EXPORT_FAILED", bundle.root, first_line(error), "export to another runtime") from error
    apart = float(np.max(found))  # Unlike max, NaN where one is.
    if not apart <= TOLERANCE:
        problem = f"{description.to}: logits differ by {apart:.2g} of the largest"
        raise BundleError("EXPORT_DISAGREES", bundle.root, problem, "export to another runtime, and report it")
    return apart


def _check_pipeline(bundle: Bundle, folder: Path) -> float:
    """The least share of a phantom's voxels with the same label, run whole and cropped."""
    description = read_description(folder)
    voxels = int(np.prod(phantom_size(description)))
    with_scores = voxels * len(bundle.labels) <= MOST_SCORES
    ways = {
        "whole": PredictOptions(device="cpu", probabilities=with_scores),
        "cropped": PredictOptions(device="cpu", crop=True),
    }
    return min(_share_equal(bundle, folder, description, options, how) for how, options in ways.items())


def _share_equal(bundle: Bundle, folder: Path, description: Description, options: PredictOptions, how: str) -> float:
    """The share of a phantom's voxels with the same label; probabilities, where they are asked for, must agree too."""
    with tempfile.TemporaryDirectory() as place:
        case = phantom(description, Path(place), is_surrounded=options.crop)
        wanted = open_predictor(bundle, replace(options, backend="torch"))(case)
        found = open_predictor(folder, options, allow=[ALLOW_CODE])(case)
    is_same = found.labels.shape == wanted.labels.shape
    different = int(np.count_nonzero(found.labels != wanted.labels)) if is_same else found.labels.size
    apart = _apart(found.probabilities, wanted.probabilities)
    if different > max(1, (1 - LEAST_EQUAL) * found.labels.size) or apart > PROBABILITY_TOLERANCE:
        counted = f"{different} of {found.labels.size} voxels of a phantom, run {how}, get another label"
        problem = f"{counted}, probabilities differ by up to {apart:.2g}"
        raise BundleError("EXPORT_DISAGREES", bundle.root, problem, "predict with the bundle itself, and report it")
    return 1 - different / found.labels.size


def _apart(found: NDArray[np.float32] | None, wanted: NDArray[np.float32] | None) -> float:
    if found is None or wanted is None:
        return 0.0
    return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")


_WRITERS: dict[str, Callable[[Any, Windowing, Path], None]] = {
    "torchscript": _write_torchscript,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}
