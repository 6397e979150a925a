import json
from pathlib import Path

import pytest

from medseg.data.cases import open_dataset, open_images
from medseg.errors import DatasetError, InputError
from medseg.evaluation.pairing import find_references, pair_masks
from tests.end_to_end.miniatures import STUDIES


def touch(folder, *names):
    for name in names:
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found(masks, references):
    """The path of each case's mask and reference below the two folders."""
    pairs = pair_masks(masks, references).pairs
    return {
        pair.case: (pair.mask and pair.mask.relative_to(masks).as_posix(), pair.reference.relative_to(references).name)
        for pair in pairs
    }


@pytest.mark.parametrize("make", STUDIES.values(), ids=STUDIES)
def test_what_predict_calls_a_case_finds_its_reference_where_the_publisher_put_it(make, tmp_path):
    make(tmp_path / "data")
    touch(tmp_path / "masks", *(case.id for case in open_images(tmp_path / "data")))
    pairing = pair_masks(tmp_path / "masks", tmp_path / "data")
    cases = open_dataset(tmp_path / "data").cases
    labels = {case.id: tuple(map(Path, case.label_files)) for case in cases}
    paired = {pair.case: pair.reference for pair in pairing.pairs}
    assert {case: files if isinstance(files, tuple) else (files,) for case, files in paired.items()} == labels
    assert all(pair.mask == tmp_path / "masks" / f"{pair.case}.nii.gz" for pair in pairing.pairs)
    assert (pairing.missing, pairing.unmatched, pairing.by_file_name) == ((), (), frozenset())
    assert pairing.layout


def test_a_case_of_a_data_set_without_a_mask_is_missing_and_a_mask_without_a_case_unmatched(tmp_path):
    data = touch(tmp_path / "data", *(f"{folder}/{case}" for folder in ("images", "masks") for case in "ab"))
    pairing = pair_masks(touch(tmp_path / "m", "a", "c"), data)
    assert (pairing.missing, pairing.unmatched) == (("b",), (str(tmp_path / "m" / "c.nii.gz"),))


def test_masks_may_go_by_the_path_of_the_data_set_s_own(tmp_path):
    data = touch(tmp_path / "data", *(f"p{n}/p{n}{end}" for n in (1, 2) for end in ("", "_gt")))
    masks = touch(tmp_path / "m", "p1/p1_gt", "p2")
    assert found(masks, data) == {"p1": ("p1/p1_gt.nii.gz", "p1_gt.nii.gz"), "p2": ("p2.nii.gz", "p2_gt.nii.gz")}


def test_a_copy_of_the_data_set_is_held_against_its_masks_and_not_its_images(tmp_path):
    names = [f"{folder}/{case}" for folder in ("images", "labels") for case in "ab"]
    data, masks = touch(tmp_path / "data", *names), touch(tmp_path / "m", *names)
    assert found(masks, data) == {case: (f"labels/{case}.nii.gz", f"{case}.nii.gz") for case in "ab"}


def test_a_case_with_one_mask_by_its_id_and_another_by_the_path_is_refused(tmp_path):
    data = touch(tmp_path / "data", "a", "a_seg")
    with pytest.raises(DatasetError, match="PAIR_AMBIGUOUS: a:.*side-by-side") as refused:
        pair_masks(touch(tmp_path / "m", "a", "a_seg"), data)
    assert "a_seg" in refused.value.problem


def test_one_mask_that_could_be_of_two_cases_is_refused(tmp_path):
    data = touch(tmp_path / "data", "images/a", "images/b", "refs/b", "refs/a")
    listed = [{"id": "a", "image": "images/a.nii.gz", "label": "b.nii.gz"}]
    listed += [{"id": "b", "image": "images/b.nii.gz", "label": "refs/b.nii.gz"}]
    touch(data, "b")
    data = data / "dataset.json"
    data.write_text(json.dumps({"labels": {"0": "background", "1": "x"}, "training": listed}))
    with pytest.raises(DatasetError, match="PAIR_AMBIGUOUS"):
        pair_masks(touch(tmp_path / "m", "b"), data)


def test_an_incomplete_data_set_is_paired_by_path_and_an_error_says_what_was_tried(tmp_path):
    data = touch(tmp_path / "data", "images/a", "masks/a", "masks/b")
    assert found(touch(tmp_path / "m", "masks/a"), data)["masks/a"] == ("masks/a.nii.gz", "a.nii.gz")
    with pytest.raises(InputError, match="PAIRS_NONE.*CASES_UNPAIRED"):
        pair_masks(touch(tmp_path / "other", "a"), data)


def test_an_error_about_a_data_set_says_how_it_was_read(tmp_path):
    data = touch(tmp_path / "data", "images/a", "masks/a")
    with pytest.raises(InputError, match="PAIRS_NONE.*image-and-mask-folders"):
        pair_masks(touch(tmp_path / "m", "z"), data)


def test_plain_folders_of_references_are_no_data_set(tmp_path):
    assert find_references(touch(tmp_path / "r", "a", "site/b_gt")).layout == ""
    assert set(find_references(tmp_path / "r").files) == {"a", "site/b_gt"}


@pytest.mark.parametrize("end", ["json", "csv"])
def test_a_description_gives_its_cases_wherever_it_lies(tmp_path, end):
    data = touch(tmp_path, "i/a", "r/one")
    description = data / f"cases.{end}"
    entry = {"id": "a", "image": "i/a.nii.gz", "label": "r/one.nii.gz"}
    if end == "json":
        description.write_text(json.dumps({"labels": {"0": "background", "1": "x"}, "training": [entry]}))
    else:
        description.write_text("id,image,label\n" + ",".join(entry.values()) + "\n")
    for masks in (touch(tmp_path / "m", "a"), tmp_path / "m" / "a.nii.gz"):
        (pair,) = pair_masks(masks, description).pairs
        assert (pair.case, pair.reference) == ("a", tmp_path / "r" / "one.nii.gz")


def test_a_description_that_names_only_classes_leaves_the_images_beside_it_as_they_are(tmp_path):
    references = touch(tmp_path / "r", "a")
    (references / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "x"}}))
    assert set(find_references(references).files) == {"a"}


def test_a_damaged_description_without_images_beside_it_is_told(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="DESCRIPTION_INVALID"):
        find_references(tmp_path)


def test_what_is_not_there_is_an_input_error(tmp_path):
    for name in ("absent", "absent.json"):
        with pytest.raises(InputError, match="INPUT_MISSING"):
            find_references(tmp_path / name)
