"""Data sets of DICOM series with a SEG or RTSTRUCT for each."""

import shutil

import numpy as np
import pytest

from medseg.checking.usable_pairs import check_pairs
from medseg.data.cases import open_dataset, open_images
from medseg.data.image_files import find_masks
from medseg.data.read import read, read_mask
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import DatasetError
from tests.conftest import save_nifti
from tests.dicom_segs import blobs, contour_mm, headers, make_seg, make_structures

SHAPE = (6, 5, 4)
SQUARE = [(0.6, 0.6), (3.4, 0.6), (3.4, 3.4), (0.6, 3.4)]


def made_case(folder, name, seg="seg.dcm"):
    """A series in ``folder/name`` and its segmentation at ``seg`` from there."""
    write_ct_series(np.full(SHAPE, 7, np.int16), np.diag([-1.0, -1, 2, 1]), folder / name, seed_uid=name)
    target = folder / name / seg
    target.parent.mkdir(parents=True, exist_ok=True)
    make_seg(folder / name, blobs(SHAPE, seed=len(name)).transpose(2, 1, 0), folder / "made")
    shutil.move(folder / "made", target)
    return target


def drawn_case(folder, name):
    """A series in ``folder/name`` and its structure set beside the folder."""
    write_ct_series(np.full(SHAPE, 7, np.int16), np.diag([-1.0, -1, 2, 1]), folder / name, seed_uid=name)
    contour = contour_mm(read(folder / name).affine, SQUARE, 1)
    return make_structures(folder / name, folder / "structures.dcm", {(1, "lung"): [contour]})


def test_masks_are_paired_with_the_series_that_they_were_drawn_on(tmp_path):
    inside = made_case(tmp_path, "a")
    beside = made_case(tmp_path, "bb", "../bb.seg.dcm")
    own = made_case(tmp_path, "ccc/ct", "../seg/1.dcm")
    drawn = drawn_case(tmp_path, "dddd")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "dicom-and-seg"
    expected = {tmp_path / "a": inside, tmp_path / "bb": beside, tmp_path / "ccc/ct": own, tmp_path / "dddd": drawn}
    found = {case.images: case.label for case in dataset.cases}
    assert {(str(image),): str(mask.resolve()) for image, mask in expected.items()} == found
    assert [case.id for case in dataset.cases] == ["a", "bb", "ct", "dddd"]
    assert check_pairs(dataset, [0, 1, 2, 3], 1) == []


def test_every_series_is_an_image_to_predict_and_no_mask_is(tmp_path):
    made_case(tmp_path, "a")
    made_case(tmp_path, "bb", "../bb.seg.dcm")
    assert [case.images for case in open_images(tmp_path)] == [(str(tmp_path / "a"),), (str(tmp_path / "bb"),)]


def test_one_series_of_several_in_a_folder_is_the_one_that_was_drawn_on(tmp_path):
    made_case(tmp_path, "a")
    write_ct_series(np.zeros((3, 3, 2), np.int16), np.eye(4), tmp_path / "other", seed_uid="other")
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / "a" / f"other_{path.name}")
    (tmp_path / "other").rmdir()
    (case,) = open_dataset(tmp_path).cases
    uid = headers_uid(tmp_path, "a")
    assert case.images == (f"{tmp_path / 'a'}#series={uid}",)
    assert read(case.images[0]).spatial_shape == SHAPE
    assert read_mask(case.label).spatial_shape == SHAPE


def headers_uid(folder, name):
    """The SeriesInstanceUID that ``made_case`` gave the series ``name``."""
    write_ct_series(np.zeros(SHAPE, np.int16), np.eye(4), folder / "again", seed_uid=name)
    uid = headers(folder / "again")[0].SeriesInstanceUID
    shutil.rmtree(folder / "again")
    return uid


def test_two_masks_of_one_series_are_refused(tmp_path):
    shutil.copy(made_case(tmp_path, "a"), tmp_path / "second.dcm")
    with pytest.raises(DatasetError, match="CASES_UNPAIRED.*second.dcm"):
        open_dataset(tmp_path)


def test_a_series_without_a_mask_and_a_mask_without_a_series_are_refused(tmp_path):
    made_case(tmp_path, "a")
    made_case(tmp_path, "bb").unlink()
    with pytest.raises(DatasetError, match="CASES_UNPAIRED.*bb has no mask"):
        open_dataset(tmp_path)
    made_case(tmp_path, "bb", "../bb.seg.dcm")
    shutil.rmtree(tmp_path / "bb")
    with pytest.raises(DatasetError, match="CASES_UNPAIRED.*bb.seg.* has no image"):
        open_dataset(tmp_path)


def test_a_damaged_mask_is_named(tmp_path):
    path = made_case(tmp_path, "a")
    made_case(tmp_path, "bb")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DatasetError, match=r"CASES_UNPAIRED.*a/seg\.dcm"):
        open_dataset(tmp_path)


def test_segmentations_beside_folders_of_converted_images_are_their_masks(tmp_path):
    seg = made_case(tmp_path / "dicom", "a")
    image = read(tmp_path / "dicom" / "a")
    save_nifti(image.array.astype(np.int16), tmp_path / "data" / "images" / "a.nii.gz", image.affine)
    (tmp_path / "data" / "masks").mkdir()
    shutil.move(seg, tmp_path / "data" / "masks" / "a.dcm")
    shutil.rmtree(tmp_path / "dicom")
    dataset = open_dataset(tmp_path / "data")
    assert dataset.cases[0].label == str(tmp_path / "data" / "masks" / "a.dcm")
    assert read_mask(dataset.cases[0].label).is_partial
    assert check_pairs(dataset, [0, 1, 2, 3], 1) == []


def test_masks_are_found_without_the_slices_that_they_were_drawn_on(tmp_path):
    seg = made_case(tmp_path, "a")
    save_nifti(np.zeros((2, 2, 2), np.uint8), tmp_path / "b.nii.gz")
    assert find_masks(tmp_path) == [seg, tmp_path / "b.nii.gz"]
    seg.unlink()
    assert find_masks(tmp_path) == [tmp_path / "a", tmp_path / "b.nii.gz"]
