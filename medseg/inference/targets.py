"""Where the masks of many cases are written: one file each, and none that would overwrite anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.data.cases import Case
from medseg.data.image_files import split_part
from medseg.errors import OutputError
from medseg.inference.recording import earlier_masks
from medseg.inference.segmentations import SUFFIX as SEG_SUFFIX
from medseg.options import DICOM_SEG

KEPT_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")
"""Formats in which a mask is written as its image came; any other image gets a NIfTI or PNG mask."""


def beside(target: Path, what: str) -> Path:
    """The file beside a mask that holds its class probabilities, channel first."""
    ending = ".npz" if target.suffix.lower() in {".png", ".tif", ".tiff"} else ".nii.gz"
    return target.with_name(f"{target.name.removesuffix(_suffix(target) or SEG_SUFFIX)}_{what}{ending}")


def targets_of(cases: Sequence[Case], folder: Path, mask_format: str) -> dict[str, Path]:
    """Each case's mask file: the case's id with the ending of the mask's format.

    Raises:
        OutputError: Two cases would share a file, or a mask would overwrite a file that is none of ours.
    """
    images = {Path(image).resolve() for case in cases for image in case.images}
    earlier = earlier_masks(folder)
    targets: dict[str, Path] = {}
    taken: set[str] = set()
    for case in cases:
        target = folder / f"{case.id}{SEG_SUFFIX if mask_format == DICOM_SEG else _mask_suffix(case)}"
        names = {str(target).lower(), str(beside(target, "probabilities")).lower()}
        if target.resolve() in images or names & taken:
            raise OutputError(
                "OUTPUT_COLLISION", target, "would overwrite an image or another mask", "give another output folder"
            )
        for file in (target, beside(target, "probabilities")):
            if file.exists() and below(target, folder) not in earlier:
                raise OutputError(
                    "OUTPUT_EXISTS", file, "was not made by an earlier prediction", "give another output folder"
                )
        taken |= names
        targets[case.id] = target
    return targets


def below(target: Path, folder: Path) -> str:
    """A mask's path relative to the output folder, as records name it."""
    return target.relative_to(folder).as_posix()


def check_outside(folder: Path, images: Path) -> None:
    """Refuse an output folder among the images.

    Raises:
        OutputError: ``OUTPUT_INSIDE_INPUT``.
    """
    if images.is_dir() and images.resolve() in folder.resolve().parents:
        raise OutputError(
            "OUTPUT_INSIDE_INPUT",
            folder,
            f"lies inside {images}, where its masks would be the next run's images",
            "give a folder beside the images",
        )


def _mask_suffix(case: Case) -> str:
    file, part = split_part(case.images[0])
    first = Path(file)
    if _suffix(first):
        return ".png" if part and not part.startswith("#t") else _suffix(first)
    return ".png" if first.suffix.lower() in {".jpg", ".jpeg", ".bmp"} else ".nii.gz"


def _suffix(path: Path) -> str:
    return next((suffix for suffix in KEPT_SUFFIXES if path.name.lower().endswith(suffix)), "")
