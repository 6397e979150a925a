"""Which cases a prediction is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.data.cases import Case, narrow_to_series, open_images
from medseg.data.cases.case import are_modalities


def cases_for(channels: Sequence[str], images: str | Path | Sequence[Case], series: str | None) -> tuple[Case, ...]:
    """The cases in ``images`` for a model that takes these channels.

    Args:
        channels: Names of the model's channels.
        images: As ``medseg.data.cases.open_images`` takes them, or the cases themselves.
        series: As ``medseg.data.cases.narrow_to_series`` takes it.

    Raises:
        InputError: There is no image.
    """
    if isinstance(images, str | Path):
        images = open_images(images, tuple(channels) if are_modalities(channels) else len(channels))
    return narrow_to_series(images, series)
