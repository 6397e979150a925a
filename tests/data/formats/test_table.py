"""The table of formats: each is found by its ending, is documented, and tells by its header what reading tells."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medseg.data.formats.dicom import DICOM
from medseg.data.formats.nifti import NIFTI, NIFTI_PAIR
from medseg.data.formats.table import FORMATS, WRITTEN, format_of, image_suffix
from medseg.data.read import read, read_extent
from medseg.errors import ImageError


def save(path, shape, spacing=1.0, slope=None):
    """A file of zeros with these sizes along its axes, the first of which varies fastest."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.Nifti1Image(np.zeros(shape, np.int16), np.diag([spacing, 1, 1, 1]))
        nibabel.save(image, path)
        if slope is not None:
            content = bytearray(path.read_bytes())
            content[112:116] = np.float32(slope).tobytes()
            path.write_bytes(content)
    else:
        image = SimpleITK.GetImageFromArray(np.zeros(shape[::-1], np.int16), isVector=False)
        image.SetSpacing([spacing, *[1.0] * (len(shape) - 1)])
        SimpleITK.WriteImage(image, str(path))
    return path


def code_of(call, *arguments):
    with pytest.raises(ImageError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 2), (5, 4, 1), (5, 4, 3, 1, 1)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_axes_are_told_apart_as_by_reading(tmp_path, name, shape):
    path = save(tmp_path / name, shape)
    extent, volume = read_extent([str(path)]), read(path)
    assert extent.shape == volume.spatial_shape
    assert extent.channels == (volume.array.shape[0] if volume.has_channels else 1)
    np.testing.assert_allclose(extent.affine, volume.affine)


@pytest.mark.parametrize("shape", [(5, 4, 3, 1, 2), (5, 4, 3, 2, 2)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_five_axes_are_refused_as_by_reading(tmp_path, name, shape):
    path = save(tmp_path / name, shape)
    assert code_of(read_extent, [str(path)]) == code_of(read, path) == "IMAGE_NOT_3D"


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_a_spacing_that_no_scan_has_is_refused_as_by_reading(tmp_path, name):
    path = save(tmp_path / name, (5, 4, 3), spacing=4000.0)
    assert code_of(read_extent, [str(path)]) == code_of(read, path) == "IMAGE_GRID"


@pytest.mark.parametrize("slope", [np.inf, np.nan])
def test_a_scaling_that_is_no_number_is_refused_as_by_reading(tmp_path, slope):
    path = save(tmp_path / "a.nii", (5, 4, 3), slope=slope)
    assert code_of(read_extent, [str(path)]) == code_of(read, path) == "IMAGE_SCALING"


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("a.nrrd", lambda content: content[: len(content) // 2], "IMAGE_TRUNCATED"),
        ("a.mha", lambda content: content[: len(content) // 2], "IMAGE_TRUNCATED"),
        ("a.nii", lambda content: content[: len(content) // 2], "IMAGE_TRUNCATED"),
        ("a.mha", lambda content: content.replace(b"= LOCAL", b"= away.raw"), "IMAGE_DATA_FILE"),
        ("a.mha", lambda content: content.replace(b"= LOCAL", b"= ../away.raw"), "IMAGE_DATA_FILE"),
        ("a.mha", lambda content: content.replace(b"MET_SHORT", b"MET_STRING"), "IMAGE_DTYPE"),
        ("a.mha", lambda content: content.replace(b"Size = 50", b"Size = 9999"), "IMAGE_TRUNCATED"),
        ("a.nrrd", lambda content: content.replace(b"encoding: raw", b"encoding: bz2"), "IMAGE_DTYPE"),
        ("a.nrrd", lambda content: content.replace(b"type: short", b"type: block"), "IMAGE_DTYPE"),
    ],
)
def test_damage_that_the_header_and_the_file_s_size_show_is_told_as_by_reading(tmp_path, name, change, code):
    path = save(tmp_path / name, (50, 40, 30))
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert code_of(read_extent, [str(path)]) == code_of(read, path) == code


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_values_of_a_voxel_are_its_channels(tmp_path, name):
    image = SimpleITK.GetImageFromArray(np.zeros((5, 4, 3, 2), np.float32), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / name))
    extent = read_extent([str(tmp_path / name)])
    assert (extent.shape, extent.channels, extent.stored_bytes) == ((3, 4, 5), 2, 4)


PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "formats.md").read_text(encoding="utf8")


def first_table(section):
    """The cells of each row of a section's first table, without its head."""
    lines = PAGE.split(f"## {section}\n", 1)[1].strip().split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def endings_in(cell):
    return re.findall(r"`(\.[a-z0-9.]+)`", cell)


def test_the_page_lists_the_endings_of_each_format_that_is_read():
    rows = {name: endings_in(endings) for name, endings, _ in first_table("Read")}
    assert rows == {known.name: list(known.suffixes) for known in FORMATS if known is not NIFTI_PAIR}


def test_the_page_lists_every_ending_that_is_written():
    listed = [ending for endings, _ in first_table("Written") for ending in endings_in(endings)]
    assert sorted(listed) == sorted(WRITTEN)


def test_no_ending_belongs_to_two_formats_and_longer_ones_come_first():
    endings = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(set(endings)) == len(endings)
    for known in FORMATS:
        assert set(known.written) <= set(known.suffixes)
        assert (known.write is None) == (not known.written)
    for place, suffix in enumerate(endings):
        assert not [later for later in endings[place + 1 :] if later.endswith(suffix) and later != suffix]


@pytest.mark.parametrize(("name", "known"), [("a.NII.gz", NIFTI), ("a.b.hdr", NIFTI_PAIR), ("x.ima", DICOM)])
def test_a_format_is_found_by_its_ending_in_any_case(tmp_path, name, known):
    (tmp_path / name).write_bytes(b"")
    assert format_of(tmp_path / name) is known
    assert image_suffix(name) in known.suffixes


def test_a_folder_and_a_file_with_its_mark_are_dicom_and_an_unknown_file_is_refused(tmp_path):
    (tmp_path / "marked").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "other.xyz").write_bytes(b"text")
    assert format_of(tmp_path) is format_of(tmp_path / "marked") is DICOM
    with pytest.raises(ImageError, match=r"FORMAT_UNKNOWN.*\.nii\.gz, \.nii, .*\.ima"):
        format_of(tmp_path / "other.xyz")
    assert image_suffix("other.xyz") == ""
