import csv
import json
import math

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.data.splits import Split, write_split
from medseg.errors import DatasetError, InputError, OutputError, UsageError
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.metrics import METRICS
from medseg.options import EvaluateOptions

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def save(array, path, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.uint8), affine), path)


def block(start, stop, value=1, shape=(6, 4, 4)):
    mask = np.zeros(shape, np.uint8)
    mask[start:stop] = value
    return mask


@pytest.fixture
def folders(tmp_path):
    """Two cases: the mask of ``a`` is right, that of ``b`` finds half of the structure (Dice 2/3)."""
    masks, references = tmp_path / "masks", tmp_path / "references"
    save(block(0, 2), references / "a.nii.gz")
    save(block(0, 2), masks / "a.nii.gz")
    save(block(0, 4), references / "b.nii.gz")
    save(block(0, 2), masks / "b.nii.gz")
    return masks, references


def dice_of(evaluation, value=1):
    return {row.case: row.scores["dice"] for row in evaluation.rows if row.value == value}


def summary_of(evaluation, value=1, part="all"):
    return next(s for s in evaluation.summaries if s.value == value and s.part == part)


def test_numbers_per_case_and_pooled_are_exact(folders):
    evaluation = evaluate(*folders)
    assert dice_of(evaluation) == pytest.approx({"a": 1.0, "b": 2 / 3})
    dice = summary_of(evaluation).metrics["dice"]
    assert (dice.n, dice.mean, dice.median) == pytest.approx((2, 5 / 6, 5 / 6))
    assert dice.sd == pytest.approx(np.std([1, 2 / 3], ddof=1))
    assert (dice.least, dice.most) == pytest.approx((2 / 3, 1))
    assert dice.pooled == pytest.approx(2 * 64 / (64 + 96))  # 16 voxels per layer
    assert evaluation.rows[1].scores["reference_ml"] == pytest.approx(32 * 6 / 1000)
    assert evaluation.exit_code == 0


def test_the_background_is_scored_but_not_in_the_foreground_mean(folders):
    save(block(0, 3), folders[0] / "b.nii.gz")
    evaluation = evaluate(*folders)
    assert dice_of(evaluation, 0) == pytest.approx({"a": 1, "b": 4 / 5})
    assert dice_of(evaluation, 1) == pytest.approx({"a": 1, "b": 6 / 7})
    foreground = summary_of(evaluation, None)
    assert foreground.metrics["dice"].mean == summary_of(evaluation, 1).metrics["dice"].mean


def test_a_class_in_neither_mask_is_left_out_and_counted(folders):
    evaluation = evaluate(*folders, options=EvaluateOptions(labels={1: "liver", 2: "tumour"}))
    tumour = summary_of(evaluation, 2)
    assert (tumour.empty, tumour.metrics["dice"].n) == (2, 0)
    assert math.isnan(tumour.metrics["dice"].mean)
    assert summary_of(evaluation, None).metrics["dice"].mean == pytest.approx(5 / 6)


def test_an_invented_structure_scores_0(folders):
    masks, references = folders
    save(block(0, 6, 0), references / "a.nii.gz")
    assert dice_of(evaluate(masks, references))["a"] == 0


def test_a_mask_stored_with_other_axes_scores_as_if_it_were_not(folders):
    masks, references = folders
    reference = np.random.default_rng(0).integers(0, 3, (5, 4, 3))
    flipped = AFFINE.copy()
    flipped[:, 0] *= -1
    flipped[0, 3] = 4.0
    save(reference, references / "a.nii.gz")
    save(reference[::-1].transpose(1, 0, 2), masks / "a.nii.gz", flipped[:, [1, 0, 2, 3]])
    evaluation = evaluate(masks, references)
    assert dice_of(evaluation, 1)["a"] == dice_of(evaluation, 2)["a"] == 1
    assert [note.code for note in evaluation.notes] == ["GRID_REINDEXED"]


def test_a_mask_elsewhere_is_refused_and_the_rest_goes_on(folders):
    masks, references = folders
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.0
    save(block(0, 2), masks / "a.nii.gz", shifted)
    evaluation = evaluate(masks, references)
    assert [(error.case, error.code) for error in evaluation.errors] == [("a", "GRID_MISMATCH")]
    assert dice_of(evaluation) == pytest.approx({"b": 2 / 3})
    assert evaluation.exit_code == 1


def test_a_header_rounded_in_saving_is_accepted_with_a_note(folders):
    masks, references = folders
    rounded = AFFINE.copy()
    rounded[0, 3] = 0.02
    save(block(0, 2), masks / "a.nii.gz", rounded)
    evaluation = evaluate(masks, references)
    assert dice_of(evaluation)["a"] == 1
    assert [note.code for note in evaluation.notes] == ["GRID_NEAR"]


def test_a_damaged_file_is_an_error_of_its_case_only(folders):
    (folders[0] / "a.nii.gz").write_bytes(b"not an image")
    evaluation = evaluate(*folders)
    assert [error.case for error in evaluation.errors] == ["a"]
    assert list(dice_of(evaluation)) == ["b"]


def test_a_value_without_a_name_is_an_error_of_its_case_only(folders):
    save(block(0, 2, 7), folders[0] / "a.nii.gz")
    evaluation = evaluate(*folders, options=EvaluateOptions(labels={1: "liver", 2: "tumour"}))
    assert [(error.case, error.code) for error in evaluation.errors] == [("a", "LABEL_UNEXPECTED")]
    assert "[7]" in evaluation.errors[0].problem


def test_a_missing_mask_scores_0_for_the_classes_in_its_reference(folders):
    masks, references = folders
    (masks / "b.nii.gz").unlink()
    evaluation = evaluate(masks, references, options=EvaluateOptions(labels={1: "liver", 2: "tumour"}))
    rows = [row for row in evaluation.rows if row.case == "b"]
    assert {row.status for row in rows} == {"missing"}
    for row in rows:
        expected = math.nan if row.value == 2 else 0.0
        for name in METRICS:
            np.testing.assert_equal(row.scores[name], expected)
    dice = summary_of(evaluation).metrics["dice"]
    assert dice.mean == 0.5
    assert dice.pooled == pytest.approx(2 * 32 / (32 + 32 + 64))
    assert evaluation.missing == ("b",)
    assert "1 without a mask (scored 0)" in evaluation.to_text()


def test_missing_masks_can_be_skipped_or_be_errors(folders):
    masks, references = folders
    (masks / "b.nii.gz").unlink()
    skipped = evaluate(masks, references, options=EvaluateOptions(missing="skip"))
    assert (dice_of(skipped), skipped.exit_code, skipped.missing) == ({"a": 1.0}, 0, ("b",))
    refused = evaluate(masks, references, options=EvaluateOptions(missing="error"))
    assert (dice_of(refused), refused.exit_code) == ({"a": 1.0}, 1)
    assert [error.code for error in refused.errors] == ["MASK_MISSING"]
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
        evaluate(masks, references, options=EvaluateOptions(missing="ignore"))


def test_a_mask_without_a_reference_is_reported(folders):
    save(block(0, 1), folders[0] / "stray.nii.gz")
    evaluation = evaluate(*folders)
    assert [path.rsplit("/", 1)[-1] for path in evaluation.unmatched] == ["stray.nii.gz"]
    assert "stray" not in dice_of(evaluation)
    assert "REFERENCE_MISSING" in evaluation.to_text()


@pytest.mark.parametrize("labels", [None, {1: "vessel"}, {4: "vessel"}])
@pytest.mark.parametrize("white", ["reference", "both"])
def test_masks_of_0_and_255_are_mapped_and_noted(tmp_path, labels, white):
    class_value = next(iter(labels or {1: ""}))
    for folder, is_white in (("references", True), ("masks", white == "both")):
        (tmp_path / folder).mkdir()
        Image.fromarray(block(0, 3, 255 if is_white else class_value)[..., 0]).save(tmp_path / folder / "eye.png")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(labels=labels))
    assert dice_of(evaluation, class_value) == {"eye": 1.0}
    assert list(evaluation.labels) == [0, class_value]
    assert {note.code for note in evaluation.notes} == {"LABEL_MAPPED"}


def test_255_stays_a_class_where_masks_hold_other_values(folders):
    masks, references = folders
    save(block(0, 2, 255), references / "a.nii.gz")
    assert list(evaluate(masks, references).labels) == [0, 1, 255]


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "liver": 1, "ignore": 3}, {"0": "background", "1": "liver", "3": "ignore"}],
    ids=["name to value", "value to name"],
)
def test_names_come_from_the_dataset_json_and_ignored_voxels_count_nowhere(folders, labels):
    masks, references = folders
    (references.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    reference = block(0, 2)
    reference[2:] = 3
    save(reference, references / "a.nii.gz")
    save(block(0, 4), masks / "a.nii.gz")
    evaluation = evaluate(masks, references)
    assert evaluation.labels == {0: "background", 1: "liver"}
    assert dice_of(evaluation)["a"] == 1


def test_a_damaged_dataset_json_is_refused(folders):
    (folders[1].parent / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="DESCRIPTION_INVALID"):
        evaluate(*folders)


def test_a_dataset_gives_its_labels_as_references(tmp_path, folders):
    listed = []
    for case in "ab":
        save(block(0, 2), tmp_path / "images" / f"{case}.nii.gz")
        listed.append({"id": case, "image": f"images/{case}.nii.gz", "label": f"references/{case}.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "x"}, "training": listed}))
    assert dice_of(evaluate(folders[0], tmp_path / "dataset.json")) == pytest.approx({"a": 1.0, "b": 2 / 3})


@pytest.mark.parametrize("form", ["names", "split", "file"])
def test_held_out_cases_get_their_own_table(folders, tmp_path, form):
    split = Split(("a",), (), ("b", "c"), 0, "by hand")
    held_out = {"names": ["b", "c"], "split": split, "file": write_split(split, tmp_path / "split.json")}[form]
    evaluation = evaluate(*folders, options=EvaluateOptions(held_out=held_out))
    assert summary_of(evaluation, part="test").metrics["dice"].mean == pytest.approx(2 / 3)
    assert {row.case: row.part for row in evaluation.rows} == {"a": "" if form == "names" else "train", "b": "test"}
    assert [(note.case, note.code) for note in evaluation.notes] == [("c", "HELD_OUT_MISSING")]
    assert "Part: test (1)" in evaluation.to_text()


def test_the_files_hold_every_number(folders, tmp_path):
    (folders[0] / "b.nii.gz").unlink()
    evaluation = evaluate(
        *folders, output=tmp_path / "out", options=EvaluateOptions(labels={1: "liver", 2: "=tumour, left"})
    )
    cases = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    assert [(row["case"], row["class"]) for row in cases] == [(row.case, row.name) for row in evaluation.rows]
    assert cases[2]["dice"] == "nan"
    summary = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert len(summary) == 4 * len(METRICS)
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record["confusion"]["per_case"]["b"] == [[0, 0, 0, 32], [0, 0, 0, 64], [0, 0, 0, 0]]
    assert record["policy"] == list(evaluation.policy)
    assert record["versions"]["medseg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cases.csv", "evaluation.json", "summary.csv"]


def test_the_same_masks_give_the_same_bytes(folders, tmp_path):
    for run in ("first", "second"):
        evaluate(*folders, output=tmp_path / run)
    for name in ("cases.csv", "summary.csv", "evaluation.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_an_output_that_cannot_be_written_is_an_output_error(folders, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        evaluate(*folders, output=tmp_path / "taken")


def test_the_text_fits_in_100_columns_and_cannot_steer_the_terminal(tmp_path):
    name = "case\x1b[2J" + "x" * 150
    for folder in ("masks", "references"):
        save(block(0, 2), tmp_path / folder / f"{name}.nii.gz")
    text = evaluate(
        tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(labels={1: "a name\n" + "y" * 90})
    ).to_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "class  " in text and "Dice" in text


def test_progress_is_told_case_by_case(folders, capsys):
    told = []
    evaluate(*folders, progress=lambda *news: told.append(news))
    evaluate(*folders, progress=False)
    assert told == [(1, 2, "a"), (2, 2, "b")]
    assert capsys.readouterr() == ("", "")


def test_no_common_name_is_an_error_that_shows_both_sides(tmp_path):
    save(block(0, 1), tmp_path / "masks" / "x.nii.gz")
    save(block(0, 1), tmp_path / "references" / "y.nii.gz")
    with pytest.raises(InputError, match=r"PAIRS_NONE.*masks x .*references.* y "):
        evaluate(tmp_path / "masks", tmp_path / "references")


def test_an_empty_or_absent_folder_is_an_input_error(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="INPUT_EMPTY"):
        evaluate(tmp_path / "empty", folders[1])
    with pytest.raises(InputError, match="INPUT_MISSING"):
        evaluate(folders[0], tmp_path / "absent")


def test_two_files_are_compared_whatever_their_names(folders):
    evaluation = evaluate(folders[0] / "b.nii.gz", folders[1] / "a.nii.gz")
    assert dice_of(evaluation) == {"a": 1.0}


def test_one_mask_against_a_folder_is_one_case(folders):
    assert list(dice_of(evaluate(folders[0] / "b.nii.gz", folders[1]))) == ["b"]


def test_soft_edges_of_a_picture_are_cut_where_one_class_is_named(tmp_path):
    for folder in ("masks", "references"):
        (tmp_path / folder).mkdir()
        picture = block(0, 3, 255)[..., 0]
        if folder == "references":
            picture[3] = 40  # as a lossy picture has it
        Image.fromarray(picture).save(tmp_path / folder / "eye.png")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(labels={1: "vessel"}))
    assert dice_of(evaluation) == {"eye": 1.0}


def test_names_come_from_the_record_beside_predicted_masks(folders):
    masks, _ = folders
    (masks / "predictions.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "tumour"}}))
    assert evaluate(*folders).labels == {0: "background", 1: "liver", 2: "tumour"}


def heart(folder, masks):
    """A patient as ACDC ships it, and its two masks as `medseg predict` names them."""
    for frame, stop in (("01", 2), ("12", 4)):
        image = folder / "patient001" / f"patient001_frame{frame}.nii.gz"
        save(np.full((6, 4, 4), 9), image)
        save(block(0, stop, 3), image.with_name(image.name.replace(".nii.gz", "_gt.nii.gz")))
        save(block(0, 2, 3), masks / image.name)
    return masks, folder


def test_references_beside_their_images_are_found_and_named_by_the_publisher_s_layout(tmp_path):
    evaluation = evaluate(*heart(tmp_path / "data", tmp_path / "masks"))
    assert dice_of(evaluation, 3) == pytest.approx({"patient001_frame01": 1.0, "patient001_frame12": 2 / 3})
    assert list(evaluation.labels) == [0, 1, 2, 3]
    assert "class 3" not in evaluation.labels.values()
    assert evaluation.settings["layout"] == "acdc"
    assert (evaluation.notes, evaluation.unmatched, evaluation.exit_code) == ((), (), 0)


def test_names_of_a_layout_follow_the_values_that_are_read_as_others(tmp_path):
    options = EvaluateOptions(renamed={3: 7})
    assert list(evaluate(*heart(tmp_path / "data", tmp_path / "masks"), options=options).labels) == [0, 1, 2, 7]


def test_the_record_beside_the_masks_names_the_classes_before_the_layout_does(tmp_path):
    masks, data = heart(tmp_path / "data", tmp_path / "masks")
    (masks / "predictions.json").write_text(json.dumps({"labels": {"0": "background", "3": "blood"}}))
    assert evaluate(masks, data).labels == {0: "background", 3: "blood"}


def test_masks_are_not_compared_with_themselves(folders):
    masks = folders[0]
    for same in (masks, masks / ".." / masks.name):
        with pytest.raises(UsageError, match="SAME_FOLDER"):
            evaluate(masks, same)
    with pytest.raises(UsageError, match="SAME_FOLDER"):
        evaluate(masks / "a.nii.gz", masks / "a.nii.gz")


def image_at(path):
    values = np.linspace(-1000, 400, 96).reshape(6, 4, 4).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), path)


def test_references_that_are_all_images_are_called_so(folders):
    masks, references = folders
    for name in "ab":
        image_at(references / f"{name}.nii.gz")
    evaluation = evaluate(masks, references)
    assert [finding.code for finding in evaluation.errors] == ["LABEL_NEGATIVE"] * 2
    assert all("images, not masks" in finding.problem for finding in evaluation.errors)
    assert evaluation.exit_code == 3


def test_one_image_among_the_references_is_that_case_s_error(folders):
    masks, references = folders
    image_at(references / "a.nii.gz")
    evaluation = evaluate(masks, references)
    assert "images, not masks" not in evaluation.errors[0].problem
    assert (dice_of(evaluation), evaluation.exit_code) == (pytest.approx({"b": 2 / 3}), 1)
