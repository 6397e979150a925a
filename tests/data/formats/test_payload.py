"""Bytes of voxels: inflated once, checked, and never allocated on a header's word alone."""

import gzip
import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.formats.payload import (
    Inflated,
    check_budget,
    check_memory,
    is_inflated,
    memory_budget,
    open_source,
    read_voxels,
    skip_bytes,
    trailing_notes,
)
from medseg.data.read import read
from medseg.data.write import write
from medseg.errors import ImageError


def saved(folder, data):
    path = folder / "file"
    path.write_bytes(data)
    return path


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    st.lists(st.integers(1, 300), max_size=8),
)
def test_members_of_a_gzip_file_read_as_one_stream_in_steps_of_any_size(tmp_path_factory, members, steps):
    path = saved(tmp_path_factory.mktemp("gzip"), b"".join(gzip.compress(member) for member in members))
    with open_source(path) as source:
        assert is_inflated(source)
        assert b"".join([*(source.read(step) for step in steps), source.read()]) == b"".join(members)


def test_content_and_not_the_name_tells_whether_a_file_is_compressed(tmp_path):
    with open_source(saved(tmp_path, b"plain bytes")) as source:
        assert not is_inflated(source)
        assert source.read() == b"plain bytes"


@pytest.mark.parametrize("place", [-8, -1], ids=["checksum", "length"])
def test_a_wrong_gzip_trailer_is_refused(tmp_path, place):
    data = bytearray(gzip.compress(b"voxels" * 100))
    data[place] ^= 1
    with open_source(saved(tmp_path, data)) as source, pytest.raises(ImageError, match="IMAGE_CORRUPT"):
        source.read()


@pytest.mark.parametrize("lost", [1, 8, 9, 15])
def test_a_stream_that_ends_early_is_refused(tmp_path, lost):
    data = gzip.compress(b"voxels" * 100)[:-lost]
    with open_source(saved(tmp_path, data)) as source, pytest.raises(ImageError, match="IMAGE_TRUNCATED"):
        source.read()


@pytest.mark.parametrize(("rest", "codes"), [(b"", []), (b"\0" * 512, []), (b"rest", ["TRAILING_DATA"])])
def test_what_follows_the_last_member_is_noted_unless_it_is_padding(tmp_path, rest, codes):
    with open_source(saved(tmp_path, gzip.compress(b"abcd") + rest)) as source:
        assert source.read(4) == b"abcd"
        assert [note.code for note in trailing_notes(source, "case")] == codes


def test_a_stream_that_inflates_far_beyond_its_voxels_is_refused(tmp_path):
    with open_source(saved(tmp_path, gzip.compress(bytes(70 << 20)))) as source:
        source.read(100)
        with pytest.raises(ImageError, match="IMAGE_TOO_LARGE"):
            trailing_notes(source, "case")


@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_are_read_first_axis_fastest_in_native_order(tmp_path, order):
    array = np.arange(24, dtype=f"{order}i4").reshape(2, 3, 4)
    with open_source(saved(tmp_path, array.tobytes(order="F"))) as source:
        voxels = read_voxels(source, (2, 3, 4), array.dtype, "case")
    np.testing.assert_array_equal(voxels, array)
    assert voxels.dtype.isnative


def test_too_few_voxels_are_refused_with_both_counts(tmp_path):
    refused = pytest.raises(ImageError, match=r"IMAGE_TRUNCATED.*48 bytes, 47 are there")
    with open_source(saved(tmp_path, bytes(47))) as source, refused:
        read_voxels(source, (2, 3, 4), np.int16, "case")


def test_bytes_are_passed_over_or_missed(tmp_path):
    with open_source(saved(tmp_path, b"0123456789")) as source:
        skip_bytes(source, 4, "case")
        assert source.read(1) == b"4"
        with pytest.raises(ImageError, match="IMAGE_TRUNCATED"):
            skip_bytes(source, 6, "case")


@pytest.mark.parametrize(
    ("claimed", "stored", "is_compressed", "code"),
    [
        (100, 100, False, None),
        (101, 100, False, "IMAGE_TRUNCATED"),
        (100_000, 100, True, None),
        (110_000, 100, True, "IMAGE_TRUNCATED"),
        (1 << 30, 2 << 20, True, None),
        (1 << 31, 2 << 20, True, "IMAGE_TOO_LARGE"),
        (1 << 31, (1 << 31) // 229, True, None),
        (1 << 31, 20 << 20, True, None),
        (1 << 80, 20 << 20, True, "IMAGE_TRUNCATED"),
    ],
)
def test_a_claim_is_held_against_the_size_of_the_file(claimed, stored, is_compressed, code):
    if code is None:
        check_budget(claimed, stored, is_compressed, "case")
    else:
        with pytest.raises(ImageError, match=code):
            check_budget(claimed, stored, is_compressed, "case")


def test_deflate_never_exceeds_the_ratio_that_is_taken_as_its_limit():
    packed = zlib.compress(bytes(10 << 20), 9)
    check_budget(10 << 20, len(packed), True, "case")


class TestMemoryBudget:
    @pytest.mark.parametrize("most", [1, 99, 100])
    def test_what_takes_more_than_the_budget_is_refused_and_no_less(self, most):
        with memory_budget(most):
            check_memory(most, "case")
            with pytest.raises(ImageError, match="MEMORY_BUDGET"):
                check_memory(most + 1, "case")

    def test_the_budget_ends_with_its_block_and_the_inner_one_counts(self):
        with memory_budget(10):
            with memory_budget(1000):
                check_memory(500, "case")
            with pytest.raises(ImageError, match="MEMORY_BUDGET"):
                check_memory(500, "case")
        check_memory(500, "case")

    def test_without_a_budget_what_the_system_has_to_give_is_the_limit(self):
        check_memory(1 << 20, "case")
        with memory_budget(None), pytest.raises(ImageError, match="MEMORY_BUDGET"):
            check_memory(1 << 60, "case")

    def test_a_header_that_claims_more_than_the_budget_is_refused(self):
        with memory_budget(1000), pytest.raises(ImageError, match="MEMORY_BUDGET"):
            check_budget(2000, 4000, False, "case")

    def test_every_format_is_held_against_the_budget(self, tmp_path, series):
        array, affine = np.zeros((40, 40, 3), np.int16), np.eye(4)
        paths = [write(array, affine, tmp_path / name) for name in ("a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.npz")]
        paths += [write(array[..., 0].astype(np.uint8), affine, tmp_path / name) for name in ("a.png", "a.tif")]
        for path in [*paths, series.folder]:
            with memory_budget(1 << 20):
                read(path)
            with memory_budget(100), pytest.raises(ImageError, match="MEMORY_BUDGET"):
                read(path)


@pytest.mark.parametrize("window", [31, 15, -15])
@pytest.mark.parametrize("size", [0, 1, 1000, 5000, (1 << 22) + 1, (1 << 22) + 100])
@pytest.mark.parametrize("step", [1 << 13, 1 << 22])
def test_well_packed_bytes_come_out_whole_to_the_last(window, size, step):
    """An inflater may take in the whole stream and still hold bytes back."""
    raw = bytes(size)
    packer = zlib.compressobj(6, zlib.DEFLATED, window)
    source = io.BufferedReader(Inflated(io.BytesIO(packer.compress(raw) + packer.flush()), "a", window), step)
    assert source.read() == raw
