"""Image files found and named."""

import pytest

from medseg.data.image_files import find_images, find_masks, image_stem, is_image_name, is_present, locate, split_part
from medseg.errors import ImageError


def test_images_are_found_at_any_depth_sorted_without_hidden_or_other_files(tmp_path):
    wanted = ["a.nii.gz", "b/c.png", "b/d/e.mha", "b/d/g.hdr"]
    others = [".hidden.nii.gz", "b/.git/x.png", "notes.txt", "b/e.raw", "b/f.img", "b/list.csv"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.nii.gz").symlink_to(tmp_path / "nowhere")
    assert find_images(tmp_path) == [tmp_path / name for name in wanted]


def test_nothing_is_found_in_an_empty_folder_and_a_missing_one_is_refused(tmp_path):
    assert find_images(tmp_path) == []
    with pytest.raises(ImageError, match="IMAGE_NOT_FOUND"):
        find_images(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii", "a.b"),
        ("x/y.nrrd", "y"),
        ("pages.tif#12", "pages#12"),
        ("cine.nii.gz#t3", "cine#t3"),
        ("series.1", "series.1"),
        ("scan", "scan"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_a_stem_is_the_name_without_its_image_suffix(name, stem):
    assert image_stem(name) == stem


@pytest.mark.parametrize(
    ("path", "file", "part"),
    [
        ("a.tif#3", "a.tif", "#3"),
        ("a.nii.gz#t11", "a.nii.gz", "#t11"),
        ("ct#series=1.2.840:2", "ct", "#series=1.2.840:2"),
        ("ct#series=:2", "ct", "#series=:2"),
        ("a\nb.tif#3", "a\nb.tif", "#3"),
        ("a.tif#", "a.tif#", ""),
        ("a.tif#-1", "a.tif#-1", ""),
        ("ct#series=x", "ct#series=x", ""),
        ("#3", "#3", ""),
    ],
)
def test_a_part_is_what_ends_a_path_in_one_of_three_forms(path, file, part):
    assert split_part(path) == (file, part)


def test_a_file_whose_own_name_ends_like_a_part_is_located_whole(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    assert locate(f"{tmp_path}/a.nii#3") == (tmp_path / "a.nii", "#3")
    (tmp_path / "a.nii#3").write_bytes(b"")
    assert locate(f"{tmp_path}/a.nii#3") == (tmp_path / "a.nii#3", "")


@pytest.mark.parametrize("path", ["missing.nii#3", "a\0b.nii", "x" * 300 + ".nii"])
def test_what_is_not_there_is_not_located(tmp_path, path):
    with pytest.raises(ImageError, match="IMAGE_NOT_FOUND"):
        locate(f"{tmp_path}/{path}")


def test_a_case_s_path_is_present_with_or_without_a_part(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    assert is_present(f"{tmp_path}/a.nii")
    assert is_present(f"{tmp_path}/a.nii#t4")
    assert not is_present(f"{tmp_path}/b.nii#t4")


@pytest.mark.parametrize(("name", "is_image"), [("a.PNG", True), ("a.nii#3", True), ("a.txt", False), ("", False)])
def test_a_name_is_an_image_s_by_its_ending(name, is_image):
    assert is_image_name(name) == is_image


def test_masks_of_plain_files_are_the_images_there(tmp_path):
    for name in ("a.nii.gz", "b/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_masks(tmp_path) == find_images(tmp_path) == [tmp_path / "a.nii.gz", tmp_path / "b" / "c.png"]
