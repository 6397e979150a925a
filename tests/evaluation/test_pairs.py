import pytest

from medseg.errors import DatasetError
from medseg.evaluation.pairs import pair_masks, plain_name


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
        (["a"], ["a", "a_seg"], "PAIR_AMBIGUOUS"),
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
    assert [plain_name(name) for name in ("_seg", "case1/_seg", "case1/seg")] == ["_seg", "case1/_seg", "case1/seg"]
