"""DICOM objects that hold masks: each kind has its reader, and each names its series."""

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from medseg.data.dicom.mask_objects import (
    MASK_READERS,
    list_image_series,
    read_dicom_mask,
    read_referenced_series,
)
from medseg.data.dicom.sniff import MASK_CLASSES, read_storage_class
from medseg.data.dicom.synthetic_ct import write_ct_series
from medseg.errors import ImageError
from tests.dicom_folders import AFFINE, TRUTH, add_series, save, slices, uid
from tests.dicom_segs import blobs, contour_mm, make_seg, make_structures

SQUARE = [(3.6, 2.6), (10.4, 2.6), (10.4, 8.4), (3.6, 8.4)]
OWN = generate_uid(entropy_srcs=["drawn on", "series"])
FORMS = ("binary", "labelmap", "rtstruct")


@pytest.fixture
def ct(tmp_path):
    write_ct_series(TRUTH, AFFINE, tmp_path / "ct", seed_uid="drawn on")
    return tmp_path / "ct"


def draw(form, ct):
    """A mask of one form beside the series, and the labels that it holds."""
    path = ct.parent / form
    if form == "rtstruct":
        make_structures(ct, path, {(1, "lung"): [contour_mm(AFFINE, SQUARE, 1)]})
        labels = np.zeros(TRUTH.shape, np.uint8)
        labels[4:11, 3:9, 1] = 1
        return path, labels
    labels = blobs(TRUTH.shape)
    return make_seg(ct, labels.transpose(2, 1, 0), path, form.upper()), labels


def test_every_storage_class_of_a_mask_has_its_reader():
    assert set(MASK_READERS) == set(MASK_CLASSES)


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_is_read_by_its_kind_and_names_its_series(ct, form):
    path, labels = draw(form, ct)
    assert read_storage_class(path) in MASK_READERS
    np.testing.assert_array_equal(read_dicom_mask(path).array, labels)
    assert read_referenced_series(path) == (OWN,)


def test_a_mask_that_cannot_be_read_is_refused(ct):
    path, _ = draw("binary", ct)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ImageError) as caught:
        read_referenced_series(path)
    assert caught.value.remedy


def test_the_series_of_a_folder_are_those_of_its_own_images(ct):
    assert list_image_series(ct) == {OWN}
    path, _ = draw("binary", ct)
    path.rename(ct / "mask")
    add_series(ct / "below", "other", 12)
    add_series(ct / ".hidden", "hidden", 13)
    (ct / "text").write_text("no DICOM")
    (ct / "cut").write_bytes((ct / "slice0001.dcm").read_bytes()[:300])
    assert list_image_series(ct) == {OWN}
    assert list_image_series(ct / "below") == {uid("other")}
    (ct.parent / "empty").mkdir()
    assert list_image_series(ct.parent / "empty") == set()


def test_a_deflated_image_names_its_series_too(tmp_path):
    save(slices()[0], tmp_path / "s.dcm", DeflatedExplicitVRLittleEndian)
    assert list_image_series(tmp_path) == {uid("series")}
