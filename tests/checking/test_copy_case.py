"""A mask is corrected as the codes of its findings ask for, and each file gets a place of its own."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checking.copy_case import (
    LONGEST_BYTES,
    Target,
    correct_mask,
    find_sheared_grid,
    name_files,
    write_images,
    write_labels,
)
from medseg.data.cases.case import Case
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from tests.checking.conftest import AFFINE, image_of, mask_of, one_hot_first, save
from tests.checking.triggers import flipped

MASK = mask_of(1)


def corrected(array, codes, grid=None, affine=AFFINE, is_picture=False, **changes):
    return correct_mask(Volume(array, affine, **changes), codes, grid, "m.nii", is_picture=is_picture)


@pytest.mark.parametrize("codes", [[], ["LABEL_MAPPED"], ["LABEL_THRESHOLDED"]])
def test_a_sound_mask_stays(codes):
    assert np.array_equal(corrected(MASK, codes).array, MASK)


def test_white_becomes_1_where_that_is_asked_for():
    white = np.where(MASK > 0, 255, 0).astype(np.uint8)
    assert np.array_equal(corrected(white, ["LABEL_MAPPED"]).array, MASK > 0)
    assert np.array_equal(corrected(white, []).array, white)


def test_nearly_whole_and_one_hot_become_labels():
    assert np.array_equal(corrected(MASK + 0.0005, ["LABEL_NEARLY_WHOLE"]).array, MASK)
    channels = one_hot_first(MASK, 3)
    assert np.array_equal(corrected(channels, ["LABEL_ONE_HOT"], has_channels=True).array, MASK)


def test_a_turned_mask_is_stored_in_the_image_s_order():
    grid = Volume(MASK, AFFINE).grid
    turned = corrected(MASK[::-1], ["GRID_REINDEXED"], grid, flipped(0))
    assert np.array_equal(turned.array, MASK)
    assert np.array_equal(turned.affine, AFFINE)


def test_a_case_of_several_files_has_them_numbered(tmp_path):
    target = Target(tmp_path, "a")
    assert target.place("images", 0, 1, ".nii.gz") == tmp_path / "images" / "a.nii.gz"
    assert target.place("labels", 1, 2, ".nrrd") == tmp_path / "labels" / "a_0001.nrrd"


def test_what_needs_no_correction_is_copied_byte_by_byte(tmp_path):
    paths = save(image_of(1), tmp_path / "in" / "i.nii.gz"), save(MASK, tmp_path / "in" / "m.nii.gz")
    case = Case("a", (str(paths[0]),), str(paths[1]), "a")
    target = Target(tmp_path / "out", "a")
    (image,), (label,) = write_images(case, target), write_labels(case, ["IMAGE_CONSTANT"], target)
    for old, new in zip(paths, (image, label), strict=True):
        assert Path(new).read_bytes() == old.read_bytes()


def test_a_corrected_mask_is_written_anew_and_the_image_stays(tmp_path):
    paths = (
        save(image_of(1), tmp_path / "in" / "i.nii.gz"),
        save(MASK * np.float32(0.9999), tmp_path / "in" / "m.nii.gz"),
    )
    case = Case("a", (str(paths[0]),), str(paths[1]), "a")
    (label,) = write_labels(case, ["LABEL_NEARLY_WHOLE"], Target(tmp_path / "out", "a"))
    assert np.array_equal(read_mask(label).array, MASK)


def test_only_a_sheared_case_whose_mask_lies_on_it_is_straightened(tmp_path):
    shear = AFFINE.copy()
    shear[1, 2] = 0.5
    path = str(save(image_of(1), tmp_path / "i.nii.gz", shear))
    case = Case("a", (path,), None, "a")
    assert find_sheared_grid(case, ["SHEARED_GRID"]).shape == read(path).grid.shape
    assert find_sheared_grid(case, []) is None
    assert find_sheared_grid(case, ["SHEARED_GRID", "GRID_MISMATCH"]) is None
    straight = Case("b", (str(save(image_of(1), tmp_path / "s.nii.gz")),), None, "b")
    assert find_sheared_grid(straight, ["GANTRY_TILT"]) is None


PIECES = st.text(alphabet="aAbéÉß._-/01", min_size=1, max_size=8)


def as_stored(name):
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(PIECES, min_size=1, max_size=8, unique=True),
    channels=st.lists(st.integers(1, 3), min_size=8, max_size=8),
)
def test_no_two_files_share_a_name(ids, channels):
    names = name_files(ids)
    files = []
    for name, count in zip(ids, channels, strict=False):
        files += [names[name] + (f"_{n:04d}" if count > 1 else "") + ".nii.gz" for n in range(count)]
    assert len({as_stored(file) for file in files}) == len(files)
    assert not any("/" in file for file in files)


def test_ids_that_can_be_names_stay():
    ids = ["a", "case_0001", "case_0002", "patient001_frame01", "über"]
    assert name_files(ids) == {name: name for name in ids}
    assert name_files([]) == {}


def test_a_name_that_could_be_a_channel_of_another_is_changed():
    assert name_files(["a", "a_0000"])["a_0000"] != "a_0000"
    assert name_files(["a_0000", "a"])["a"] != "a"


def test_long_ids_are_cut_and_still_differ():
    first, second = ("x" * 400 + end for end in "ab")
    names = name_files([first, second])
    assert names[first] != names[second]
    assert all(len(name.encode()) <= LONGEST_BYTES for name in names.values())
