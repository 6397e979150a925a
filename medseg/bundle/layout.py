"""Where MONAI's saver puts a mask: the same name that `medseg predict` gives it."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from monai.data.folder_layout import FolderLayoutBase

from medseg.data.cases import open_images
from medseg.data.cases.case import Channels
from medseg.data.cases.listing import stem_of
from medseg.errors import OutputError


class CaseLayout(FolderLayoutBase):
    """Names each mask by its case's id, below the output folder and never over another file of the run.

    MONAI's own layout cuts a folder's name at its last dot (a DICOM series 1.2.3 and its
    neighbour 1.2.4 share a mask), gives `a.nii.gz` and `a.mha` one mask, and steps out of
    the output folder, onto the image itself, where the input is one file or a list.

    Args:
        output_dir: Folder of the masks.
        dataset_dir: What the cases were found in: an image, a folder or a list.
        channels: Images per case, or the names of its channels.
        extension: Ending of a mask's file, such as `.nii.gz`.
        postfix: Set behind the id, after an underscore.
    """

    def __init__(
        self, output_dir: str, dataset_dir: str, channels: Channels = 1, extension: str = ".nii.gz", postfix: str = ""
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset_dir = Path(dataset_dir)
        self.channels = channels
        self.ending = (f"_{postfix}" if postfix else "") + extension
        self._taken: dict[Path, str] = {}

    def filename(self, subject: str | os.PathLike = "subject", idx: int | None = None, **kwargs: object) -> Path:
        """The mask of the case whose first image is ``subject``; its folder is made.

        A case that is not in ``dataset_dir`` is named by its file.

        Args:
            subject: Path of the image, as the reader was given it.
            idx: Number of the patch, where an image is saved in several.
            kwargs: Further keys and values to set behind the name.

        Raises:
            OutputError: ``OUTPUT_COLLISION``: the mask would overwrite an image or another case's mask.
        """
        image = str(subject)
        added = [str(idx)] if idx is not None else []
        added += [f"{key}-{value}" for key, value in kwargs.items()]
        name = "_".join([self._ids.get(image) or stem_of(Path(image)), *added])
        target = self.output_dir / f"{name}{self.ending}"
        place = target.resolve()
        if self._taken.setdefault(place, image) != image or place in self._images | {Path(image).resolve()}:
            raise OutputError("OUTPUT_COLLISION", target, "would overwrite an image or another mask")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @cached_property
    def _ids(self) -> dict[str, str]:
        """Each case's id by its first image; looked up late, for a bundle may be opened where no data is."""
        if not self.dataset_dir.exists():
            return {}
        return {case.images[0]: case.id for case in open_images(self.dataset_dir, self.channels)}

    @cached_property
    def _images(self) -> set[Path]:
        return {Path(image).resolve() for image in self._ids}
