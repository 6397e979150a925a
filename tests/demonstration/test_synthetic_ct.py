"""A synthetic CT series: valid, repeatable, and obviously nobody's."""

from datetime import date

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import OutputError, UsageError

AFFINE = np.diag([-1.5, -2, 3, 1])
HOUNSFIELD = np.arange(120, dtype=np.int16).reshape(6, 5, 4)


def test_the_same_call_gives_the_same_bytes_and_another_seed_other_identifiers(tmp_path):
    first, again, other = (
        write_ct_series(HOUNSFIELD, AFFINE, tmp_path / name, seed_uid=seed)
        for name, seed in (("a", "one"), ("b", "one"), ("c", "two"))
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert pydicom.dcmread(first[0]).SeriesInstanceUID != pydicom.dcmread(other[0]).SeriesInstanceUID


def test_every_slice_is_a_ct_image_of_one_synthetic_patient(tmp_path):
    write_ct_series(HOUNSFIELD, AFFINE, tmp_path / "ct", seed_uid="tests")
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "ct").iterdir())]
    assert {one.SOPClassUID.name for one in slices} == {"CT Image Storage"}
    assert {one.file_meta.TransferSyntaxUID for one in slices} == {ExplicitVRLittleEndian}
    assert {str(one.PatientName) for one in slices} == {"SYNTHETIC^PHANTOM"}
    assert len({one.SOPInstanceUID for one in slices}) == len(slices)
    assert len({one.SeriesInstanceUID for one in slices}) == 1
    assert str(date.today().year) not in str(slices[0].get("StudyDate"))


@pytest.mark.parametrize(
    ("array", "affine"),
    [
        (HOUNSFIELD[:, :, 0], AFFINE),
        (HOUNSFIELD.astype(float), AFFINE),
        (HOUNSFIELD.astype(np.int32) + 40000, AFFINE),
        (HOUNSFIELD, AFFINE + np.array([[0, 0, 1, 0], [0] * 4, [0] * 4, [0] * 4])),
    ],
    ids=["2D", "float", "too bright", "sheared"],
)
def test_what_a_ct_series_cannot_hold_is_refused(tmp_path, array, affine):
    with pytest.raises(UsageError, match="CT_SERIES"):
        write_ct_series(array, affine, tmp_path / "ct", seed_uid="x")
    assert not (tmp_path / "ct").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "ct").write_text("here")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write_ct_series(HOUNSFIELD, AFFINE, tmp_path / "ct", seed_uid="x")
