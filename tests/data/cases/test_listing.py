"""What lies in a folder: names that cases could go by, channels by number, cases of pairs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.cases.listing import (
    Folder,
    Pair,
    check_present,
    folder_names,
    group_channels,
    make_cases,
    names_in_list,
    names_of,
    one_or_more,
    stem_of,
    unique_names,
)
from medseg.errors import DatasetError

ROOT = Path("/data")


def test_a_file_goes_by_its_stem_its_place_without_suffix_or_its_place():
    assert names_of(ROOT / "a" / "b.nii.gz", ROOT) == ("b", "a/b", "a/b.nii.gz")


def test_a_folder_keeps_what_looks_like_a_suffix(tmp_path):
    (tmp_path / "ct.nii").mkdir()
    assert stem_of(tmp_path / "ct.nii") == "ct.nii"
    assert stem_of(tmp_path / "other.nii") == "other"


def test_the_root_goes_by_its_own_name():
    assert folder_names(ROOT / "a" / "b", ROOT) == ("b", "a/b")
    assert folder_names(ROOT, ROOT) == ("data", "data")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/data/a/b.tif#3", ("b_003", "a/b_003", "a/b.tif_003")),
        ("/data/a/b.nii.gz#t12", ("b_t012", "a/b_t012", "a/b.nii.gz_t012")),
        ("/data/ct#series=3:2", ("ct_series3_stack2",) * 3),
        ("/elsewhere/b.nii", ("b",)),
    ],
)
def test_a_part_of_a_file_adds_its_number_to_each_name(path, names):
    assert names_in_list(path, ROOT) == names


def test_images_of_a_folder_are_listed_once(tmp_path):
    (tmp_path / "a.png").write_bytes(b"0")
    folder = Folder(tmp_path)
    assert folder.images == (tmp_path / "a.png",)
    (tmp_path / "b.png").write_bytes(b"0")
    assert folder.images == (tmp_path / "a.png",)


def test_a_sub_folder_is_found_whatever_its_case_in_the_order_of_the_names(tmp_path):
    for name in ("Masks", "IMAGES", "labels"):
        (tmp_path / name).mkdir()
    folder = Folder(tmp_path)
    assert folder.below(("img", "images")) == tmp_path / "IMAGES"
    assert folder.all_below(("labels", "masks", "gt")) == [tmp_path / "labels", tmp_path / "Masks"]
    assert folder.below(("nothing",)) is None


def files(*names):
    return [ROOT / name for name in names]


def test_numbered_files_are_channels_of_one_case():
    groups = group_channels(files("b_0000.nii.gz", "a_0001.nii.gz", "a_0000.nii.gz"))
    assert groups == {ROOT / "a": files("a_0000.nii.gz", "a_0001.nii.gz"), ROOT / "b": files("b_0000.nii.gz")}


@pytest.mark.parametrize(
    "names", [(), ("a.nii",), ("a_0000.nii", "b.nii"), ("a_0001.nii",), ("a_0000.nii", "a_0002.nii")]
)
def test_without_a_whole_count_from_zero_nothing_is_a_channel(names):
    assert group_channels(files(*names)) is None


def test_names_that_two_files_share_are_told_apart_from_the_others():
    unique, repeated = unique_names(files("a.png", "a.jpg", "b.png"), lambda path: path.stem)
    assert unique == {"b": ROOT / "b.png"}
    assert sorted(repeated) == files("a.jpg", "a.png")


@given(st.lists(st.text("ab", min_size=1, max_size=3), unique=True))
def test_cases_are_sorted_and_each_pair_is_one(names):
    cases = make_cases(Pair((name,), (f"{name}.nii",), None) for name in names)
    assert [case.id for case in cases] == sorted(names)
    assert all(case.images == (f"{case.id}.nii",) for case in cases)


def test_a_group_that_is_given_counts_before_the_one_in_the_name():
    pairs = [Pair(("patient1_a",), ("a",), None), Pair(("patient1_b",), ("b",), None)]
    assert [case.group for case in make_cases(pairs, ["g", None])] == ["g", "patient1"]


def test_no_pairs_are_no_cases():
    assert make_cases([]) == ()


def test_masks_are_one_path_several_or_none():
    assert one_or_more(iter(())) is None
    assert one_or_more(["m.png"]) == "m.png"
    assert one_or_more(name for name in ("l.png", "r.png")) == ("l.png", "r.png")


def test_files_that_a_description_names_in_vain_are_counted(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"0")
    there = str(tmp_path / "a.nii")
    check_present(tmp_path, [Pair(("a",), (there,), f"{there}#2")])
    with pytest.raises(DatasetError, match=r"FILES_MISSING.*2 files are not there") as caught:
        check_present(tmp_path, [Pair(("a",), (there, "gone.nii"), ("lost.nii", there))])
    assert "lost.nii" in caught.value.problem
