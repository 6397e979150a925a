"""Which cases a prediction is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.cases import Case, open_images
from medseg.data.channels import are_modalities


def cases_for(channels: Sequence[str], images: str | Path, series: str | None) -> tuple[Case, ...]:
    """The cases in ``images`` for a model that takes these channels.

    Args:
        channels: Names of the model's channels.
        images: As ``medseg.data.cases.open_images`` takes them.
        series: DICOM folders are narrowed to the series of that number or end of UID; None leaves them.

    Raises:
        InputError: There is no image.
    """
    cases = open_images(images, tuple(channels) if are_modalities(channels) else len(channels))
    if series is None:
        return cases
    named = ((f"{image}#series={series}" if Path(image).is_dir() else image for image in case.images) for case in cases)
    return tuple(replace(case, images=tuple(images)) for case, images in zip(cases, named, strict=True))
