"""The chest of the phantom: organs as functions of world position, drawn from a generator.

Every shape is a level in about millimetres: negative inside, zero on the surface,
positive outside. Levels combine by ``minimum`` (union) and ``maximum`` (intersection).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One shape to paint: where it is, its brightness and, if it is an organ asked for, its label."""

    level_mm: Array
    hu: float | Array
    label: int | None = None


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; ``turn`` maps world directions to its own axes."""

    center_mm: NDArray[np.float32]
    half_axes_mm: NDArray[np.float32]
    turn: NDArray[np.float32]

    def level_mm(self, points: Array, margin_mm: float = 0.0) -> Array:
        """The level of the ellipsoid grown by ``margin_mm`` (negative shrinks)."""
        half_axes = self.half_axes_mm + np.float32(margin_mm)
        own = np.tensordot(self.turn / half_axes[:, None], points, 1)
        own -= _column(self.turn / half_axes[:, None] @ self.center_mm, points)
        return (np.sqrt(np.square(own).sum(axis=0)) - 1) * half_axes.min()


@dataclass(frozen=True)
class Waves:
    """A smooth random field: a sum of plane waves with one amplitude per wave and output."""

    radians_per_mm: NDArray[np.float32]
    phases: NDArray[np.float32]
    amplitudes: NDArray[np.float32]

    def field(self, points: Array) -> Array:
        """The field at ``points`` of shape (3, ...), of shape (outputs, ...)."""
        angles = np.tensordot(self.radians_per_mm, points, 1)
        angles += _column(self.phases, points)
        return np.tensordot(self.amplitudes, np.sin(angles, out=angles), 1)


@dataclass(frozen=True)
class Tissue:
    """Brightness of each tissue in one scan, in HU."""

    lung: float
    fat: float
    muscle: float
    liver: float
    myocardium: float
    blood: float
    marrow: float
    cortex: float
    lesion: float


@dataclass(frozen=True)
class Anatomy:
    """One patient; all lengths in millimetres before the pose and the deformation."""

    pose: NDArray[np.float32]
    deformation: Waves
    vessels: Waves
    marbling: Waves
    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    lungs: tuple[Ellipsoid, Ellipsoid]
    heart: Ellipsoid
    wall_mm: float
    lesions: tuple[Ellipsoid, ...]
    tissue: Tissue

    def layers(self, points: Array) -> Iterator[Layer]:
        """The shapes at ``points`` (3, X, Y, Z), in world mm, in the order in which to paint them."""
        here = self._unbend(points)
        tissue, marbling = self.tissue, self.marbling.field(here)[0]
        skin, cavity = self._skin(here), self._cavity(here)
        yield Layer(skin, 20.0)
        yield Layer(skin + 2, tissue.fat + marbling)
        yield Layer(skin + self.fat_mm, tissue.muscle + 2 * marbling)
        yield Layer(cavity, tissue.muscle - 45 + 4 * marbling)
        abdomen = np.maximum(cavity, -self._above_diaphragm(here))
        yield Layer(abdomen, tissue.muscle + 2 * marbling)
        yield Layer(np.maximum(abdomen, -here[0] - 8), tissue.liver + marbling)
        for label, lung in enumerate(self.lungs, start=1):
            yield Layer(self._lung(here, lung), self._lung_hu(here), label)
        yield Layer(_aorta(here), tissue.blood + marbling)
        yield Layer(_capsule(here, (2, -14, 22), (2, -16, 130), 6.5), -990.0)
        yield from self._bones(here, skin)
        yield Layer(self.heart.level_mm(here), tissue.myocardium + 2 * marbling, 3)
        yield Layer(self.heart.level_mm(here, -self.wall_mm), tissue.blood + marbling, 4)
        for lesion in self.lesions:
            yield Layer(lesion.level_mm(here) + 0.1 * marbling, tissue.lesion + 2 * marbling, 6)

    def lung_level_mm(self, points: Array) -> Array:
        """Level of both lungs at undeformed ``points``, for finding room for a lesion."""
        return np.minimum(*(self._lung(points, lung) for lung in self.lungs))

    def _unbend(self, points: Array) -> Array:
        return np.tensordot(self.pose, points + self.deformation.field(points), 1)

    def _skin(self, points: Array) -> Array:
        x, y, z = points
        waist = 1 - 0.0011 * np.maximum(z - 30, 0) + 0.0004 * np.maximum(-z, 0)
        across = np.square(np.square(x / (self.half_width_mm * waist)) + 1e-6) ** 0.62
        along = np.square(np.square(y / (self.half_depth_mm * waist)) + 1e-6) ** 0.58
        return ((across + along) ** 0.42 - 1) * np.float32(self.half_depth_mm)

    def _cavity(self, points: Array) -> Array:
        return self._skin(points) + np.float32(self.fat_mm + 9)

    def _above_diaphragm(self, points: Array) -> Array:
        """Negative above the diaphragm's two domes, the right one (over the liver) higher."""
        x, y, z = points
        right = 1 / (1 + np.exp(-x / 8))
        dome = -64 + 8 * right + 26 * (1 - np.square((np.abs(x) - 42) / 52) - np.square((y - 8) / 62))
        return (dome - z) * 0.8

    def _lung(self, points: Array, lung: Ellipsoid) -> Array:
        bounds = (
            lung.level_mm(points),
            self._cavity(points) + 1.5,
            self._above_diaphragm(points),
            1.5 - self.heart.level_mm(points),
            2 - _spine(points),
            1.5 - _aorta(points),
        )
        return reduce(np.maximum, bounds)

    def _lung_hu(self, points: Array) -> Array:
        """Air with vessels, the curves on which two random fields vanish, thicker near the hilum."""
        first, second = self.vessels.field(points)
        hilum_mm = np.hypot(np.hypot(np.abs(points[0]) - 18, points[1] + 6), points[2] - 8)
        thickness = 0.16 + 0.34 * np.exp(-hilum_mm / 30)
        vessels = np.exp(-(np.square(first) + np.square(second)) / np.square(thickness))
        # Blood sinks: the lung of a patient on the back is denser behind.
        return self.tissue.lung - 0.5 * points[1] + (self.tissue.muscle - self.tissue.lung) * 0.9 * vessels

    def _bones(self, points: Array, skin: Array) -> Iterator[Layer]:
        tissue, spine = self.tissue, _spine(points)
        ribs = _ribs(points, skin + self.fat_mm + 5)
        yield Layer(ribs, tissue.cortex * 0.8)
        yield Layer(ribs + 2, tissue.marrow)
        sternum = _capsule(points, (0, self.half_depth_mm - self.fat_mm - 9, 60), (0, 56, -20), 4.5)
        yield Layer(sternum, tissue.marrow * 1.3)
        yield Layer(spine, tissue.cortex, 5)
        yield Layer(spine + 2, tissue.marrow + 3 * self.marbling.field(points)[0], 5)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient: sizes, positions, pose, deformation, tissues and one or two lesions."""
    lungs = tuple(_ellipsoid(rng, (side * 45, -2, 12), (38, 60, 80), (0, side * 4, 0), spread_mm=2) for side in (-1, 1))
    bare = Anatomy(
        pose=rotation(rng.normal(size=3), rng.uniform(0, 6)).astype(np.float32),
        deformation=_waves(rng, outputs=3, wavelength_mm=(110, 220), amplitude=1.6, count=7),
        vessels=_waves(rng, outputs=2, wavelength_mm=(20, 42), amplitude=0.5, count=9),
        marbling=_waves(rng, outputs=1, wavelength_mm=(12, 45), amplitude=2.5, count=8),
        half_width_mm=float(rng.uniform(93, 102)),
        half_depth_mm=float(rng.uniform(67, 74)),
        fat_mm=float(rng.uniform(4, 9)),
        lungs=(lungs[0], lungs[1]),
        heart=_ellipsoid(rng, (-14, 14, -20), (42, 30, 31), (8, 24, -34), spread_mm=4),
        wall_mm=float(rng.uniform(8, 11)),
        lesions=(),
        tissue=_draw_tissue(rng),
    )
    return Anatomy(**{**vars(bare), "lesions": _draw_lesions(rng, bare)})


def _draw_tissue(rng: np.random.Generator) -> Tissue:
    return Tissue(
        lung=float(rng.uniform(-880, -800)),
        fat=float(rng.uniform(-112, -88)),
        muscle=float(rng.uniform(45, 65)),
        liver=float(rng.uniform(85, 125)),
        myocardium=float(rng.uniform(85, 125)),
        blood=float(rng.uniform(190, 320)),
        marrow=float(rng.uniform(170, 260)),
        cortex=float(rng.uniform(550, 850)),
        lesion=float(rng.uniform(20, 60)),
    )


def _draw_lesions(rng: np.random.Generator, anatomy: Anatomy) -> tuple[Ellipsoid, ...]:
    """One or two ellipsoids, each at the first drawn place that lies deep enough in a lung."""
    lesions: list[Ellipsoid] = []
    for _ in range(int(rng.integers(1, 3))):
        half_axes = rng.uniform(7.5, 15, size=3)
        places = rng.uniform((-80, -55, -50), (80, 55, 85), size=(2000, 3)).astype(np.float32)
        depth = anatomy.lung_level_mm(places.T)
        place = places[int(np.argmax(depth < min(-half_axes.mean(), 0.5 * depth.min())))]
        lesions.append(_ellipsoid(rng, place, half_axes, rng.uniform(-90, 90, size=3), spread_mm=0))
    return tuple(lesions)


def _ellipsoid(
    rng: np.random.Generator, center_mm: object, half_axes_mm: object, degrees: object, spread_mm: float
) -> Ellipsoid:
    """An ellipsoid near the one described: moved by ``spread_mm``, resized by 6 %, turned by 5 degrees."""
    center = np.asarray(center_mm, dtype=float) + rng.normal(size=3).clip(-2, 2) * spread_mm
    half_axes = np.asarray(half_axes_mm, dtype=float) * rng.uniform(0.94, 1.06, size=3)
    angles = np.asarray(degrees, dtype=float) + rng.uniform(-5, 5, size=3)
    turn = rotation(np.eye(3)[0], angles[0]) @ rotation(np.eye(3)[1], angles[1]) @ rotation(np.eye(3)[2], angles[2])
    return Ellipsoid(center.astype(np.float32), half_axes.astype(np.float32), turn.T.astype(np.float32))


def _waves(
    rng: np.random.Generator, outputs: int, wavelength_mm: tuple[float, float], amplitude: float, count: int
) -> Waves:
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = 2 * np.pi * directions / rng.uniform(*wavelength_mm, size=(count, 1))
    amplitudes = rng.normal(size=(outputs, count)).clip(-2, 2) * amplitude
    return Waves(*(a.astype(np.float32) for a in (steps, rng.uniform(0, 2 * np.pi, size=count), amplitudes)))


def rotation(axis: NDArray, degrees: float) -> NDArray[np.float64]:
    """The rotation by ``degrees`` about ``axis`` (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _column(values: NDArray, points: Array) -> Array:
    return np.asarray(values, dtype=np.float32).reshape(-1, *(1,) * (points.ndim - 1))


def _capsule(points: Array, start_mm: tuple, end_mm: tuple, radius_mm: float) -> Array:
    """Level of a round-ended tube between two points."""
    start, along = np.asarray(start_mm, np.float32), np.subtract(end_mm, start_mm).astype(np.float32)
    apart = points - _column(start, points)
    share = np.clip(np.tensordot(along / (along @ along), apart, 1), 0, 1)
    apart -= _column(along, points) * share
    return np.sqrt(np.square(apart).sum(axis=0)) - np.float32(radius_mm)


def _aorta(points: Array) -> Array:
    path = ((4, 10, -5), (6, 4, 34), (-5, -14, 50), (-14, -26, 36), (-13, -26, -140))
    return reduce(np.minimum, (_capsule(points, a, b, 7.5) for a, b in pairwise(path)))


def _spine(points: Array) -> Array:
    """Vertebral bodies 24 mm apart, discs between, and the arch round the spinal canal."""
    x, y, z = points
    body = (np.hypot(x / 14.5, (y + 40) / 11) - 1) * 11
    disc = 10.0 - np.abs(np.mod(z + 12, 24) - 12)
    canal_mm = np.hypot(x, y + 55)
    arch = np.abs(canal_mm - 8.5) - 2.5
    process = np.maximum(np.abs(x) - 2.5, np.abs(y + 65) - 6)
    behind = np.maximum(np.minimum(arch, process), np.abs(np.mod(z + 12, 24) - 12) - 8)
    return np.minimum(np.maximum(body, -disc), np.maximum(behind, 6 - canal_mm))


def _ribs(points: Array, shell_mm: Array) -> Array:
    """Slanting hoops in the chest wall, 24 mm apart; ``shell_mm`` is the distance to the middle of the wall."""
    slanted = points[2] - 0.45 * points[1]
    along = np.mod(slanted, 24) - 12
    return np.hypot(shell_mm, along * 0.75) - 3.4
