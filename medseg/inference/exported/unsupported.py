"""Refusing what an exported bundle could not do exactly."""

from __future__ import annotations

from medseg.errors import BundleError


def need(is_so: bool, part: str, told: str) -> None:
    """Refuse a part of a bundle unless something holds.

    Args:
        is_so: Whether it holds.
        part: The transform or inferer, as its configuration names it.
        told: What does not hold, in words.

    Raises:
        BundleError: EXPORT_UNSUPPORTED.
    """
    if not is_so:
        raise unsupported(part, told)


def unsupported(part: str, told: str) -> BundleError:
    """The refusal of a part of a bundle."""
    problem = f"an exported bundle cannot do what {part} does: {told}"
    return BundleError("EXPORT_UNSUPPORTED", part, problem, "predict with the bundle itself, or build it without")
