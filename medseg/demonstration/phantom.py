"""Draw synthetic chest CT scans with exact labels, every one different, all from a seed.

The anatomy (a child's chest, about 200 mm wide) is a set of smooth functions of world
position, negative inside a shape; a scan samples it on any grid. So one seed on two
grids is one patient scanned twice, and volumes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medseg.data.write import write
from medseg.demonstration.anatomy import Anatomy, draw_anatomy, rotation
from medseg.errors import UsageError
from medseg.files import write_json

LABELS = {
    0: "background",
    1: "left lung",
    2: "right lung",
    3: "myocardium",
    4: "heart cavity",
    5: "vertebrae",
    6: "lesion",
}
"""Name of each label value, as in the ``labels`` of a dataset.json."""

FIELD_OF_VIEW_MM = ((218.0, 255.0), (165.0, 190.0), (188.0, 235.0))
"""Least and greatest extent drawn along x, y and z; the least still holds every organ."""

CENTER_MM = (0.0, 0.0, 8.0)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Phantom:
    """One synthetic scan.

    Args:
        image: (X, Y, Z) int16, Hounsfield units.
        labels: (X, Y, Z) uint8, values of :data:`LABELS`.
        affine: 4 by 4, voxel index to RAS+ millimetres.
        names: Name of each label value.
    """

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    names: dict[int, str]


def make_phantom(
    seed: int,
    shape: tuple[int, int, int] = (96, 96, 64),
    spacing_mm: tuple[float, float, float] | None = None,
    oblique_degrees: float = 0.0,
    orientation: str = "RAS",
    noise_hu: float | None = None,
) -> Phantom:
    """Scan the chest that ``seed`` stands for.

    The anatomy depends on ``seed`` alone; spacing (where not given), the direction of
    the tilt, the bias field and the noise are drawn from it as well.

    Args:
        seed: Not negative.
        shape: Voxels along each axis of the array.
        spacing_mm: Along each axis of the array; drawn so that the whole chest is in view if None.
        oblique_degrees: Angle by which the grid is turned about a random axis through its centre.
        orientation: The world direction of each array axis, such as ``RAS`` or ``LPS``.
        noise_hu: Standard deviation of the noise; drawn from 8 to 28 HU if None.

    Raises:
        UsageError: A value no grid can have.

    Example:
        >>> phantom = make_phantom(seed=3, shape=(24, 24, 16))
        >>> phantom.image.shape, phantom.image.dtype.name, phantom.names[1]
        ((24, 24, 16), 'int16', 'left lung')
    """
    _check_request(seed, shape, spacing_mm, orientation)
    rng = np.random.default_rng([seed, 1])
    affine = _draw_affine(rng, shape, spacing_mm, oblique_degrees, orientation)
    clean_hu, labels = _sample(draw_anatomy(np.random.default_rng([seed, 0])), shape, affine)
    sigma_hu = float(rng.uniform(8, 28)) if noise_hu is None else noise_hu
    image = np.rint(_add_bias(rng, clean_hu) + _draw_grain(rng, shape, sigma_hu)).clip(-1024, 3071)
    return Phantom(image.astype(np.int16), labels, affine, dict(LABELS))


def write_phantoms(folder: str | Path, count: int, seed: int = 0, shape: tuple[int, int, int] = (96, 96, 64)) -> Path:
    """Write ``count`` phantoms as a data set in Decathlon form, and return its dataset.json.

    Spacing varies from scan to scan; every other grid is oblique (up to 12 degrees) and
    every third is stored LPS, as a scanner would.

    Args:
        folder: Made if need be; gets ``imagesTr``, ``labelsTr`` and ``dataset.json``.
        count: Number of cases.
        seed: Of the whole set; the first cases of two sets of one seed are the same.
        shape: Voxels of each scan.
    """
    root = Path(folder)
    training = []
    for index in range(count):
        phantom = _draw_phantom(seed, index, shape)
        pair = {key: f"{part}/phantom_{index:03d}.nii.gz" for key, part in _FOLDERS.items()}
        for key, array in (("image", phantom.image), ("label", phantom.labels)):
            (root / pair[key]).parent.mkdir(parents=True, exist_ok=True)
            write(array, phantom.affine, root / pair[key])
        training.append({key: f"./{path}" for key, path in pair.items()})
    description = root / "dataset.json"
    write_json(_describe(training, seed), description)
    return description


_FOLDERS = {"image": "imagesTr", "label": "labelsTr"}


def _draw_phantom(seed: int, index: int, shape: tuple[int, int, int]) -> Phantom:
    case_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    degrees = float(np.random.default_rng([seed, index]).uniform(2, 12)) if index % 2 else 0.0
    return make_phantom(case_seed, shape, oblique_degrees=degrees, orientation="LPS" if index % 3 == 2 else "RAS")


def _describe(training: list[dict[str, str]], seed: int) -> dict[str, object]:
    return {
        "name": "phantom thorax",
        "description": f"synthetic chest CT, seed {seed}",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in LABELS.items()},
        "numTraining": len(training),
        "training": training,
        "test": [],
    }


def _check_request(
    seed: int, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None, orientation: str
) -> None:
    is_direction = sorted("RAS"["RASLPI".index(c) % 3] for c in orientation if c in "RASLPI") == ["A", "R", "S"]
    is_grid = len(shape) == 3 and min(shape) >= 2 and min(spacing_mm or (1,)) > 0
    if seed < 0 or not is_direction or not is_grid:
        raise UsageError(
            "SETTING_INVALID",
            f"phantom {seed}",
            f"shape {shape}, spacing {spacing_mm} mm, orientation {orientation!r}",
            "give a seed from 0, three sizes from 2, positive spacings and an orientation such as RAS",
        )


def _draw_affine(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] | None,
    oblique_degrees: float,
    orientation: str,
) -> NDArray[np.float64]:
    world_axes = [next(row for row, pair in enumerate(("RL", "AP", "SI")) if c in pair) for c in orientation]
    extents_mm = [rng.uniform(*limits) for limits in FIELD_OF_VIEW_MM]
    axis_of_turn = rng.normal(size=3)
    drawn_mm = [extents_mm[row] / n for row, n in zip(world_axes, shape, strict=True)]
    in_plane_mm = max(mm for mm, row in zip(drawn_mm, world_axes, strict=True) if row < 2)
    chosen_mm = [mm if row == 2 else in_plane_mm for mm, row in zip(drawn_mm, world_axes, strict=True)]
    if spacing_mm is not None:
        chosen_mm = list(spacing_mm)
    steps = np.zeros((3, 3))
    for column, row in enumerate(world_axes):
        steps[row, column] = chosen_mm[column] * (1 if orientation[column] in "RAS" else -1)
    affine = np.eye(4)
    affine[:3, :3] = rotation(axis_of_turn, oblique_degrees) @ steps
    affine[:3, 3] = np.asarray(CENTER_MM) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def _sample(
    anatomy: Anatomy, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[Array, NDArray[np.uint8]]:
    """The noiseless image in HU and the labels: shapes painted one over the other."""
    index = np.indices(shape, dtype=np.float32)
    points = np.tensordot(affine[:3, :3].astype(np.float32), index, 1)
    points += affine[:3, 3].astype(np.float32)[:, None, None, None]
    image = np.full(shape, -1000, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    for layer in anatomy.layers(points):
        covered = _find_coverage(layer.level_mm)
        image += covered * (layer.hu - image)
        if layer.label is not None:
            labels[layer.level_mm < 0] = layer.label
    return image, labels


def _find_coverage(level_mm: Array) -> Array:
    """Share of each voxel that lies inside, to first order in the level's slope.

    Across one voxel the level changes by the sum of its absolute differences along the
    axes, so the share is linear between minus and plus half of that: partial volume
    without supersampling, on any anisotropic or oblique grid.
    """
    change = np.full_like(level_mm, 1e-6)
    for axis in range(3):
        change += np.abs(np.gradient(level_mm, axis=axis))
    return np.clip(0.5 - level_mm / change, 0, 1, out=change)


def _add_bias(rng: np.random.Generator, image_hu: Array) -> Array:
    """A slow multiplicative field of up to 1.5 % and an offset of a few HU."""
    waves: list[Callable[[Array], Array]] = [np.sin, np.cos]
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in image_hu.shape), indexing="ij", sparse=True)
    field = sum(rng.uniform(-0.005, 0.005) * wave(2 * axis) for wave in waves for axis in axes)
    return (image_hu + 1000) * (1 + field) - 1000 + np.float32(rng.uniform(-4, 4))


def _draw_grain(rng: np.random.Generator, shape: tuple[int, int, int], sigma_hu: float) -> Array:
    """Noise with a grain of about a voxel and a half, as a reconstruction kernel leaves it."""
    grain = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.7, 0.7, 0.35))
    return grain * np.float32(sigma_hu / max(float(grain.std()), 1e-6))
