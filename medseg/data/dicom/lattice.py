"""Where the frames of a segmentation lie: numbered planes at even steps, on the slices of a series if it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import spread
from medseg.data.dicom.frames import Frame
from medseg.data.dicom.reference import SourceSeries
from medseg.data.volume import Note
from medseg.errors import GridError, ImageError
from medseg.geometry import LPS_TO_RAS, NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid

SAME_POSITION_MM = 0.01
STEP_TOLERANCE = 0.01
ALIKE_SPACING = 1e-4
ALIKE_DIRECTION = 1e-3
PARALLEL = 1e-6
MOST_GAPS = 200
"""Planes left out between two that are stored, beyond which a spacing is not believed."""


@dataclass(frozen=True)
class Lattice:
    """Parallel planes at even steps.

    Args:
        places: Of each frame, the number of its plane.
        count: Planes in all.
        affine: 4 by 4, (column, row, plane) to RAS+ mm.
        astray_voxels: How far the frame that fits worst lies off its plane, in units of the smallest spacing.
    """

    places: tuple[int, ...]
    count: int
    affine: NDArray[np.float64]
    astray_voxels: float = 0.0


def lattice_of(frames: Sequence[Frame], series: SourceSeries | None, path: Path) -> tuple[Lattice, tuple[Note, ...]]:
    """The planes on which frames lie: the slices of ``series`` where these are parallel, else their own steps.

    Raises:
        ImageError: ``DICOM_MIXED_GEOMETRY`` or ``DICOM_IRREGULAR_SLICES``.
        GridError: ``GRID_MISMATCH``: a frame lies between the slices of its series.
    """
    _check_alike(frames, path)
    if series is not None and abs(frames[0].normal @ series.frames[0].normal) > 1 - PARALLEL:
        return _on_slices(frames, series, path), ()
    return _own(frames, path)


def on_source(array: NDArray, lattice: Lattice, series: SourceSeries, path: Path) -> tuple[NDArray, tuple[Note, ...]]:
    """Labels (X, Y, Z) of a lattice on the grid of its series; what was not stored is background.

    Raises:
        GridError: ``GRID_MISMATCH``: the voxels are not those of the series.
    """
    placed, apart = spread(array, Grid(array.shape, lattice.affine), series.grid, path)
    apart = max(apart, lattice.astray_voxels)
    if apart <= SAME_GRID_VOXELS:
        return placed, ()
    return placed, (Note("GRID_NEAR", f"segmentation and series lie {apart:.2g} voxels apart"),)


def _check_alike(frames: Sequence[Frame], path: Path) -> None:
    first = frames[0]
    for frame in frames[1:]:
        turned = np.abs(frame.along_row - first.along_row).max(), np.abs(frame.along_column - first.along_column).max()
        if not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=ALIKE_SPACING):
            problem = f"frames of spacing {first.spacing_mm} and {frame.spacing_mm} mm"
        elif max(turned) > ALIKE_DIRECTION:
            problem = "frames of several orientations"
        else:
            continue
        raise ImageError("DICOM_MIXED_GEOMETRY", path, problem, "export one segmentation for each orientation")


def _on_slices(frames: Sequence[Frame], series: SourceSeries, path: Path) -> Lattice:
    """Planes numbered as the slices of a series whose planes are parallel; each slice counts where it truly lies."""
    normal = series.frames[0].normal
    slices = series.positions_mm @ normal
    heights = np.array([frame.position_mm @ normal for frame in frames])  # type: ignore[operator]
    nearest = np.abs(heights[:, None] - slices[None, :]).argmin(axis=1)
    step_mm = abs(float(series.step_mm @ normal))
    off = np.abs(heights - slices[nearest])
    worst = int(off.argmax())
    if off[worst] > NEAR_GRID_VOXELS * step_mm:
        problem = f"frame {frames[worst].index} lies {off[worst]:.3g} mm off the nearest slice of its series"
        raise GridError("GRID_MISMATCH", path, problem, "export the segmentation on the series that it was drawn on")
    places = tuple(int(place) for place in nearest)
    # Each frame is measured from its own slice, so that the rounding of the slices' positions does not add up.
    shifts = np.array([frame.position_mm for frame in frames]) - series.positions_mm[nearest]
    shift = np.median(shifts, axis=0)
    smallest_mm = min(*frames[0].spacing_mm, step_mm)
    astray = float(np.linalg.norm(shifts - shift, axis=1).max()) / smallest_mm
    _check_straight(astray, path)
    affine = _affine(frames[0], series.step_mm, (LPS_TO_RAS @ series.grid.affine)[:3, 3] + shift)
    return Lattice(places, len(slices), affine, max(astray, float(off[worst]) / smallest_mm))


def _own(frames: Sequence[Frame], path: Path) -> tuple[Lattice, tuple[Note, ...]]:
    """Planes at the steps that the frames themselves have, the gaps between them filled."""
    positions = np.array([frame.position_mm for frame in frames], dtype=float)
    heights = (positions - positions[0]) @ frames[0].normal
    steps = np.diff(np.sort(heights))
    steps = steps[steps > SAME_POSITION_MM]
    notes: tuple[Note, ...] = ()
    if not steps.size and frames[0].thickness_mm is None:
        notes = (Note("DICOM_NO_THICKNESS", "a single plane of unknown thickness; 1 mm is assumed"),)
    step_mm = _step_mm(steps, frames[0].stated_step_mm, path) if steps.size else frames[0].thickness_mm or 1.0
    places = np.rint((heights - heights.min()) / step_mm).astype(int)
    first, last = int(heights.argmin()), int(heights.argmax())
    step = frames[0].normal * step_mm
    if places.max() > 0:
        step = (positions[last] - positions[first]) / places.max()
    origin = np.median(positions - places[:, None] * step, axis=0)
    smallest_mm = min(*frames[0].spacing_mm, step_mm)
    astray = float(np.linalg.norm(positions - origin - places[:, None] * step, axis=1).max()) / smallest_mm
    _check_straight(astray, path)
    lattice = Lattice(tuple(int(place) for place in places), int(places.max()) + 1, _affine(frames[0], step, origin))
    return lattice, notes


def _step_mm(steps: NDArray[np.float64], stated: float | None, path: Path) -> float:
    """The step of which all distances between planes are multiples: the stated one, else the smallest."""
    for step in (stated, float(steps.min())):
        if not step:
            continue
        times = steps / step
        is_multiple = np.abs(times - np.rint(times)) <= np.maximum(STEP_TOLERANCE * np.rint(times), STEP_TOLERANCE)
        if (is_multiple & (np.rint(times) >= 1)).all() and times.max() <= MOST_GAPS:
            return float(step)
    problem = f"planes {steps.min():.4g} to {steps.max():.4g} mm apart, which are no multiples of one step"
    raise ImageError("DICOM_IRREGULAR_SLICES", path, problem, "put the series that it was drawn on beside it")


def _check_straight(astray_voxels: float, path: Path) -> None:
    if astray_voxels > NEAR_GRID_VOXELS:
        problem = f"a frame lies {astray_voxels:.3g} voxels off the line through the others"
        raise ImageError("DICOM_IRREGULAR_SLICES", path, problem, "export the segmentation again")


def _affine(frame: Frame, step: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, 0] = frame.along_row * frame.spacing_mm[0]
    lps[:3, 1] = frame.along_column * frame.spacing_mm[1]
    lps[:3, 2], lps[:3, 3] = step, origin
    return LPS_TO_RAS @ lps
