"""Export a bundle: its network in another runtime's format, its steps described, the whole held against the bundle."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import nn

from medseg.bundle.load import Bundle, open_bundle
from medseg.bundle.trust import ALLOW_CODE
from medseg.data.cases.case import Case
from medseg.data.write import write
from medseg.errors import BundleError, OutputError, check_known, first_line
from medseg.inference.boxes import MARGIN
from medseg.inference.predict import open_predictor
from medseg.inference.prediction import EXPORT_NAME
from medseg.inference.runtimes.backends import TOLERANCE, measure_difference
from medseg.inference.runtimes.conversion import convert_to_onnx, save_openvino_model
from medseg.inference.runtimes.exported_network import check_runtime, open_network
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
from medseg.options import TARGETS, PredictOptions


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


LEAST_EQUAL = 0.9999
"""Share of a phantom's voxels in which the exported bundle must give the bundle's labels."""

PROBABILITY_TOLERANCE = 0.01
"""Largest difference of a probability of the phantom's."""

MOST_SCORES = 5e7
"""Voxels × labels up to which probabilities are compared as well; MONAI holds several arrays of that size."""

BEYOND_WINDOW = 1.15
"""Size of a phantom in windows along its first axis; along the others it is one window."""

SPACING_FACTOR = 1.1
"""Spacing of a phantom in that of the bundle, where the bundle resamples."""

GRAIN_VOXELS = 6
"""Size of the grains of a phantom's noise along each axis."""

SURROUNDING_HU = -1024.0
"""What a phantom of Hounsfield units is surrounded with: air as scanners store it."""


def plan_batches(description: Description) -> Windowing:
    """The batches of windows that an exported network is made for."""
    window = description.window
    return Windowing(window.batch, len(description.channels), window.network_roi)


def check_network(bundle: Bundle, folder: Path) -> float:
    """Compare the logits with PyTorch's, of one window and of a full batch; returns their largest difference.

    Args:
        bundle: The bundle that was exported.
        folder: The exported bundle.

    Raises:
        BundleError: EXPORT_FAILED: the runtime cannot run it; EXPORT_DISAGREES.
    """
    description = read_description(folder)
    run, windowing = open_network(folder, description), plan_batches(description)

    def alone(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(windows.numpy()))

    def in_batch(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(windows.numpy().repeat(windowing.batch, axis=0))[-1:])

    try:
        found = [measure_difference(bundle.network, each, windowing) for each in (alone, in_batch)]
    except FAILURES as error:
        raise BundleError("EXPORT_FAILED", bundle.root, first_line(error)) from error
    apart = float(np.max(found))  # Unlike max, NaN where one is.
    if not apart <= TOLERANCE:
        problem = f"{description.to}: logits differ by {apart:.2g} of the largest"
        raise BundleError("EXPORT_DISAGREES", bundle.root, problem, "export to another runtime, and report it")
    return apart


def check_pipeline(bundle: Bundle, folder: Path) -> float:
    """Compare a phantom's masks with the bundle's, run whole and cropped; returns the least share of equal voxels.

    Args:
        bundle: The bundle that was exported.
        folder: The exported bundle.

    Raises:
        BundleError: EXPORT_DISAGREES.
    """
    description = read_description(folder)
    voxels = int(np.prod(measure_phantom(description)))
    with_scores = voxels * len(bundle.labels) <= MOST_SCORES
    ways = {
        "whole": PredictOptions(device="cpu", probabilities=with_scores),
        "cropped": PredictOptions(device="cpu", crop=True),
    }
    return min(_compare_masks(bundle, folder, description, options, how) for how, options in ways.items())


def _compare_masks(bundle: Bundle, folder: Path, description: Description, options: PredictOptions, how: str) -> float:
    """Run one phantom both ways; returns the share of its voxels with the same label.

    Probabilities, where they are asked for, must agree too.
    """
    with tempfile.TemporaryDirectory() as place:
        case = make_phantom(description, Path(place), is_surrounded=options.crop)
        wanted = open_predictor(bundle, replace(options, backend="torch"))(case)
        found = open_predictor(folder, options, allow=[ALLOW_CODE])(case)
    is_same = found.labels.shape == wanted.labels.shape
    different = int(np.count_nonzero(found.labels != wanted.labels)) if is_same else found.labels.size
    apart = _measure_difference(found.probabilities, wanted.probabilities)
    if different > max(1, (1 - LEAST_EQUAL) * found.labels.size) or apart > PROBABILITY_TOLERANCE:
        counted = f"{different} of {found.labels.size} voxels of a phantom, run {how}, get another label"
        problem = f"{counted}, probabilities differ by up to {apart:.2g}"
        raise BundleError("EXPORT_DISAGREES", bundle.root, problem, "predict with the bundle itself, and report it")
    return 1 - different / found.labels.size


def _measure_difference(found: NDArray[np.float32] | None, wanted: NDArray[np.float32] | None) -> float:
    if found is None or wanted is None:
        return 0.0
    return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")


def make_phantom(description: Description, folder: Path, is_surrounded: bool = False) -> Case:
    """Smooth noise in the range of values that the bundle takes, turned and spaced unlike its grid, in files.

    Args:
        description: What the exported bundle says of itself.
        folder: Where the files are written.
        is_surrounded: Put air, or padding, at both ends of its first axis, more than a window together.
    """
    generator = np.random.default_rng(0)
    steps = {str(step["step"]): step for step in description.preprocessing}
    size, affine = measure_phantom(description), np.eye(4)
    low, high = 0.0, 255.0
    if "ScaleIntensityRange" in steps and len(size) == 3:
        low, high = (float(steps["ScaleIntensityRange"][key]) for key in ("a_min", "a_max"))
    if len(size) == 3:
        wanted = [*steps.get("Spacing", {}).get("pixdim", [1.0])]
        spacing = [SPACING_FACTOR * (each if each > 0 else 1.0) for each in (*wanted, wanted[-1], wanted[-1])[:3]]
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nothing = np.full((size[0] // 2 + 2 * MARGIN, *size[1:]), 0.0 if description.air is None else SURROUNDING_HU)
    files = []
    for number in range(len(description.channels)):
        array = low + (high - low) * _make_smooth_noise(generator, size)
        array = np.concatenate([nothing, array, nothing]) if is_surrounded else array
        file = folder / f"channel_{number}.{'nii.gz' if len(size) == 3 else 'png'}"
        write(array.astype(np.float32) if len(size) == 3 else np.rint(array).astype(np.uint8), affine, file)
        files.append(str(file))
    return Case("phantom", tuple(files), None, "phantom")


def measure_phantom(description: Description) -> tuple[int, ...]:
    """Voxels of a phantom along each axis, without what surrounds it."""
    first, *others = description.window.roi
    thickness = [3 if size == 1 else size for size in others]
    return (int(np.ceil(first * BEYOND_WINDOW)) + (first == 1), *thickness)


def _make_smooth_noise(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise from 0 to 1 with grains of some voxels."""
    coarse = generator.random([max(2, -(-n // GRAIN_VOXELS)) for n in size])
    return np.clip(zoom(coarse, [n / m for n, m in zip(size, coarse.shape, strict=True)], order=1), 0, 1)
