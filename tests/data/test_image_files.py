"""Image files found and named."""

import pytest

from medseg.data.image_files import find_images, image_stem
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
