"""Names of a copy's files: no two alike, none leads out of its folder."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checking.file_names import LONGEST_BYTES, name_files

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
