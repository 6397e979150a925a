"""The coarse bundle that says where in an image another bundle has to look: named in that bundle, and found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import find_shipped
from medseg.errors import BundleError
from medseg.options import MOST_MARGIN_MM, is_margin

if TYPE_CHECKING:
    from medseg.bundle.load import Bundle

MARGIN_MM = 20.0
"""Kept around what a locator finds: two or three of its voxels, and eight of a network's at 2.5 mm, as for air."""

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
