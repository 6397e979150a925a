import pytest

from medseg.errors import DatasetError
from medseg.evaluation.pairing import pair_masks, strip_role


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("mask", "reference", "case"),
    [
        ("a.nii.gz", "a.nrrd", "a"),
        ("a.nii.gz", "a_gt.nii.gz", "a"),
        ("a_seg.nii.gz", "a_label.nii.gz", "a"),
        ("a/a_seg.nii.gz", "a.nii.gz", "a"),
        ("site/a.nii.gz", "site/a_mask.nii.gz", "site/a"),
        ("a_seg.nii.gz", "a_seg.nii.gz", "a_seg"),
        ("a.b.nii.gz", "a.b_Mask.nii", "a.b"),
    ],
)
def test_a_mask_finds_its_reference(tmp_path, mask, reference, case):
    for path in (tmp_path / "m" / mask, tmp_path / "r" / reference):
        touch(path)
    (pair,) = pair_masks(tmp_path / "m", tmp_path / "r").pairs
    assert (pair.case, pair.mask, pair.reference) == (case, tmp_path / "m" / mask, tmp_path / "r" / reference)


@pytest.mark.parametrize(
    ("masks", "references", "code"),
    [
        (["a"], ["a_gt", "a_seg"], "PAIR_AMBIGUOUS"),
        (["a_seg", "a_pred"], ["a"], "PAIR_AMBIGUOUS"),
    ],
)
def test_names_that_could_mean_two_files_are_refused(tmp_path, masks, references, code):
    for folder, names in (("m", masks), ("r", references)):
        for name in names:
            touch(tmp_path / folder / f"{name}.nii.gz")
    with pytest.raises(DatasetError, match=code):
        pair_masks(tmp_path / "m", tmp_path / "r")


def test_one_name_with_two_endings_is_refused(tmp_path):
    touch(tmp_path / "m" / "a.nii.gz")
    touch(tmp_path / "m" / "a.nii")
    with pytest.raises(DatasetError, match="CASE_TWICE"):
        pair_masks(tmp_path / "m", tmp_path / "m")


def test_a_name_that_is_only_a_suffix_stays():
    assert [strip_role(name) for name in ("_seg", "case1/_seg", "case1/seg")] == ["_seg", "case1/_seg", "case1/seg"]


@pytest.mark.parametrize(
    ("mask", "reference", "case"),
    [
        ("site/a.nii.gz", "a.nii.gz", "a"),
        ("a.nii.gz", "site/a_gt.nii.gz", "site/a"),
        ("run/a_seg.nii.gz", "site/a.nii.gz", "site/a"),
    ],
)
def test_a_mask_in_another_folder_is_found_by_its_file_name(tmp_path, mask, reference, case):
    for path in ("m/b.nii.gz", "r/b.nii.gz", f"m/{mask}", f"r/{reference}"):
        touch(tmp_path / path)
    pairing = pair_masks(tmp_path / "m", tmp_path / "r")
    assert {pair.case: pair.mask for pair in pairing.pairs} == {
        case: tmp_path / "m" / mask,
        "b": tmp_path / "m" / "b.nii.gz",
    }
    assert (pairing.by_file_name, pairing.unmatched, pairing.missing) == ({case}, (), ())


@pytest.mark.parametrize(
    ("masks", "references"),
    [
        (["x/a", "y/a"], ["a"]),
        (["x/a"], ["y/a", "z/a"]),
        (["a", "x/a"], ["a", "y/a"]),
        (["x/seg"], ["y/seg"]),
        (["x/_mask"], ["y/_mask"]),
    ],
    ids=["two masks", "two references", "one of each in place", "a role for a name", "a suffix for a name"],
)
def test_a_file_name_that_is_not_unique_or_names_no_case_pairs_nothing(tmp_path, masks, references):
    for path in ("m/b", "r/b", *(f"m/{name}" for name in masks), *(f"r/{name}" for name in references)):
        touch(tmp_path / f"{path}.nii.gz")
    pairing = pair_masks(tmp_path / "m", tmp_path / "r")
    assert pairing.by_file_name == frozenset()
    assert len(pairing.missing) == len(set(references) - set(masks))
    assert len(pairing.unmatched) == len(set(masks) - set(references))
    assert set(pairing.doubtful) == (set() if "seg" in masks[0] or "_mask" in masks[0] else set(pairing.missing))


def test_a_single_mask_in_a_folder_of_references_is_found_below_it(tmp_path):
    touch(tmp_path / "a.nii.gz")
    touch(tmp_path / "r" / "site" / "a.nii.gz")
    touch(tmp_path / "r" / "site" / "b.nii.gz")
    (pair,) = pair_masks(tmp_path / "a.nii.gz", tmp_path / "r").pairs
    assert (pair.case, pair.mask_name) == ("site/a", "a")
