"""A small CT series on disk, and ways to spoil it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.data.dicom.synthetic_ct import write_ct_series

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
HOUNSFIELD = np.random.default_rng(0).integers(-1024, 2000, (6, 5, 4)).astype(np.int16)


@dataclass(frozen=True)
class Series:
    """Four axial slices at 30, 33, 36 and 39 mm, and what was written."""

    folder: Path
    array: np.ndarray
    affine: np.ndarray

    def path(self, number):
        """The file of slice ``number``, counted from 1 upwards along z."""
        return self.folder / f"slice{number:04d}.dcm"

    def edit(self, number, target=None, **values):
        """Rewrite a file with some attributes set, or removed where None."""
        edit_dicom(self.path(number), target, **values)

    def edit_all(self, **values):
        """``edit`` for every slice."""
        for path in sorted(self.folder.iterdir()):
            edit_dicom(path, **values)


def edit_dicom(path, target=None, **values):
    data_set = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.save_as(target or path)


@pytest.fixture
def series(tmp_path):
    write_ct_series(HOUNSFIELD, AFFINE, tmp_path / "ct", seed_uid="tests")
    return Series(tmp_path / "ct", HOUNSFIELD, AFFINE)
