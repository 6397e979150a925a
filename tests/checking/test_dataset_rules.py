"""Label maps among the images are told as such, and real images are not."""

import numpy as np
import pytest
from PIL import Image

import medseg
from tests.checking.conftest import AFFINE, image_of, mask_of, save


def told(folder):
    return {(each.case, each.code) for each in medseg.check(folder).findings}


def large(number):
    """At least 4096 voxels, from which on grey levels are counted."""
    return np.kron(image_of(number), np.ones((2, 2, 2), np.int16)), np.kron(
        mask_of(number), np.ones((2, 2, 2), np.uint8)
    )


@pytest.mark.parametrize("name", ["ct_lungs", "lungs", "ct-airways", "seg"])
def test_a_label_map_on_the_grid_of_a_volume_is_one_warning_whatever_its_name(name, tmp_path):
    image, mask = large(1)
    save(image, tmp_path / "ct.nii.gz")
    save(mask, tmp_path / f"{name}.nii.gz")
    report = medseg.check(tmp_path)
    assert [(each.case, each.code, each.severity) for each in report.findings] == [(name, "LOOKS_LIKE_MASK", "warning")]
    assert "ct" in report.findings[0].problem
    assert report.summary.orientations == {"LPS": 1}


def test_many_labels_in_patches_are_a_label_map_and_noise_of_as_many_values_is_none(tmp_path):
    image, _ = large(1)
    patches = np.kron(np.arange(7 * 7 * 6).reshape(7, 7, 6) % 100, np.ones((4, 4, 4)))[:28, :26, :24].astype(np.uint8)
    save(image, tmp_path / "ct.nii.gz")
    save(patches, tmp_path / "total.nii.gz")
    save(np.random.default_rng(0).integers(0, 100, image.shape).astype(np.uint8), tmp_path / "eight_bit.nii.gz")
    assert told(tmp_path) == {("total", "LOOKS_LIKE_MASK")}


def test_a_volume_of_few_values_elsewhere_or_below_0_is_an_image(tmp_path):
    image, mask = large(1)
    moved = AFFINE.copy()
    moved[0, 3] += 30
    save(image, tmp_path / "ct.nii.gz")
    save(mask, tmp_path / "ct_elsewhere.nii.gz", moved)
    save(large(2)[1].astype(np.int16) - 1, tmp_path / "ct_below.nii.gz")
    save(large(3)[1] * np.float32(0.5), tmp_path / "ct_half.nii.gz")
    assert told(tmp_path) == {(name, "FEW_GREY_LEVELS") for name in ("ct_elsewhere", "ct_below", "ct_half")}


def test_a_folder_of_masks_alone_holds_no_image_that_they_could_be_of(tmp_path):
    for number in range(2):
        save(large(number)[1], tmp_path / f"m{number}_seg.nii.gz")
    assert "LOOKS_LIKE_MASK" not in {code for _, code in told(tmp_path)}


@pytest.mark.parametrize(
    ("name", "is_mask"), [("frog_outline", True), ("toad_mask", True), ("frog2", False), ("x", False)]
)
def test_a_picture_needs_a_name_since_all_of_one_size_are_on_one_grid(name, is_mask, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (80, 70), dtype=np.uint8)
    drawn = np.zeros((80, 70), np.uint8)
    drawn[20:40, 20:50] = 255
    Image.fromarray(noise).save(tmp_path / "frog.png")
    Image.fromarray(drawn).save(tmp_path / f"{name}.png")
    assert (name, "LOOKS_LIKE_MASK") in told(tmp_path) or not is_mask
    assert (name, "FEW_GREY_LEVELS") in told(tmp_path) or is_mask


def test_a_file_that_is_some_images_mask_already_is_none(scans):
    scans.undescribe()
    assert scans.check().findings == ()
