"""What a header claims is held against the bytes that are there, before anything is decoded."""

import pytest

from medseg.data.dicom.pixels import coded_size


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (bytes.fromhex("ffd8 ffc4 0004 0000 ffc3 000b 10 0018 0014 01"), (24, 20)),
        (bytes.fromhex("ffd8 fff7 000b 10 0018 0014 01"), (24, 20)),
        (bytes.fromhex("ff4f ff51 0029 0000 00000014 00000018 00000000 00000000"), (24, 20)),
        (bytes.fromhex("ffd8 ffda 000b 10 0018 0014 01"), None),
        (b"\x01\0\0\0" * 20, None),
        (b"", None),
    ],
    ids=["lossless", "ls", "2000", "no size", "rle", "empty"],
)
def test_the_size_that_a_compressed_stream_states_is_found(stream, expected):
    assert coded_size(stream) == expected
