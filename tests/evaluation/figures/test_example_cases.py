import math

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.errors import GridError
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.figures.example_cases import (
    ExampleFiles,
    calculate_foreground_dice,
    choose_cases,
    find_dataset_examples,
    find_examples,
    rank_cases,
    spread_cases,
    spread_cases_by_scores,
)
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.summaries import Row
from medseg.options import EvaluateOptions

SHAPE = (5, 4, 3)
NAMES = {0: "background", 1: "ball"}


def save(array, path, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)


@pytest.fixture
def volumes(tmp_path):
    """Two cases; the image counts its voxels, the mask is its truth without the last slice."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:3, 1:3] = 1
    mask = truth.copy()
    mask[..., 2] = 0
    for case in ("a", "b"):
        save(np.arange(60, dtype=np.float32).reshape(SHAPE), tmp_path / "images" / f"{case}.nii.gz")
        save(truth, tmp_path / "references" / f"{case}_gt.nii.gz")
        save(mask, tmp_path / "masks" / f"{case}_pred.nii.gz")
    return tmp_path


def found(folder, **settings):
    return find_examples(folder / "images", [folder / "masks"], folder / "references", NAMES, settings)


def test_image_truth_and_prediction_of_a_case_are_read(volumes):
    files = found(volumes)
    assert sorted(files.cases) == ["a", "b"]
    example = files.read("a")
    np.testing.assert_array_equal(example.image.ravel(), np.arange(60))
    assert (example.truth.sum(), example.predictions[0].sum()) == (12, 8)
    assert example.grid.spacing_mm == (1, 2, 3)


def test_a_mask_and_an_image_stored_the_other_way_are_turned(volumes):
    turned = np.diag([-1.0, 2.0, 3.0, 1.0])
    turned[0, 3] = 4
    image = np.arange(60, dtype=np.float32).reshape(SHAPE)
    save(image[::-1].copy(), volumes / "images" / "a.nii.gz", turned)
    np.testing.assert_array_equal(found(volumes).read("a").image, image)


def test_a_slice_is_cut_along_the_axis_that_was_judged(volumes):
    for axis in (0, 2):
        evaluation = evaluate(
            volumes / "masks",
            volumes / "references",
            options=EvaluateOptions(labels=NAMES, slices=axis),
            progress=False,
        )
        files = found(volumes, **evaluation.settings)
        case = f"a#00{1 if axis == 0 else 2}"
        assert case in {row.case for row in evaluation.rows} and files.holds(case)
        example = files.read(case)
        whole = files.read("a")
        np.testing.assert_array_equal(example.truth, whole.truth.take([int(case[-1])], axis))
        np.testing.assert_array_equal(example.image, whole.image.take([int(case[-1])], axis))


def test_values_are_renamed_as_the_evaluation_renamed_them(volumes):
    truth = np.full(SHAPE, 4, np.uint8)
    save(truth, volumes / "references" / "a_gt.nii.gz")
    assert (found(volumes, renamed="4=1").read("a").truth == 1).all()


def test_an_image_on_another_grid_is_an_error(volumes):
    save(np.zeros((5, 4, 4), np.float32), volumes / "images" / "a.nii.gz")
    with pytest.raises(GridError):
        found(volumes).read("a")


def test_a_case_without_an_image_or_mask_is_not_held(volumes):
    (volumes / "images" / "a.nii.gz").unlink()
    files = found(volumes)
    assert files.cases == ["b"]
    assert not files.holds("a") and not files.holds("nobody") and not files.holds("a#001")


def test_a_picture_keeps_its_colours_and_a_mask_of_255_is_read_as_1(tmp_path):
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[..., 0], colours[1, 2, 1] = 200, 90
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3] = 255
    for folder, array in (("images", colours), ("references", mask), ("masks", mask)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "frame1.png")
    example = found(tmp_path).read("frame1")
    assert example.image.shape == (3, 6, 4) and example.image[1, 2, 1] == 90
    assert set(np.unique(example.truth)) == set(np.unique(example.predictions[0])) == {0, 1}


def test_a_data_set_gives_images_and_references_by_its_own_ids(volumes):
    for kind, name in (("images", "{}.nii.gz"), ("references", "{}_gt.nii.gz")):
        for case in ("a", "b"):
            target = volumes / "data" / {"images": "images", "references": "masks"}[kind] / f"{case}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((volumes / kind / name.format(case)).read_bytes())
    (volumes / "masks" / "b_pred.nii.gz").unlink()
    (volumes / "masks" / "a_pred.nii.gz").rename(volumes / "masks" / "a.nii.gz")
    files = find_dataset_examples(volumes / "data", [volumes / "masks"], NAMES, {1: 7})
    assert files.cases == ["a"]
    assert set(np.unique(files.read("a").truth)) == {0, 7}


def test_a_reference_that_is_a_bare_array_is_put_on_its_mask_s_grid(volumes):
    truth = np.asarray(nib.load(volumes / "references" / "a_gt.nii.gz").dataobj)
    (volumes / "references" / "a_gt.nii.gz").unlink()
    np.savez(volumes / "references" / "a_gt.npz", mask=truth.transpose(2, 1, 0))
    example = found(volumes).read("a")
    np.testing.assert_array_equal(example.truth, truth)
    assert example.predictions[0].shape == example.image.shape == SHAPE
    assert example.grid.spacing_mm == (1, 2, 3)


def ranking(count):
    return [(f"case{index}", 1 - index / 100) for index in range(count)]


def kinds(count, each):
    return [(kind, case) for kind, case, _ in choose_cases(ranking(count), each)]


def test_the_best_the_middle_and_the_worst_are_chosen():
    assert kinds(9, 1) == [("best", "case0"), ("in between", "case4"), ("worst", "case8")]
    assert [case for _, case in kinds(11, 2)] == ["case0", "case1", "case5", "case6", "case9", "case10"]


@pytest.mark.parametrize("count", range(12))
def test_no_case_is_chosen_twice_and_few_cases_are_all_chosen(count):
    cases = [case for _, case in kinds(count, 3)]
    assert len(cases) == len(set(cases)) == (count if count <= 3 else 3 * (min(count, 9) // 3))


def test_one_case_is_the_best_and_two_are_best_and_worst():
    assert kinds(1, 3) == [("best", "case0")]
    assert kinds(2, 3) == [("best", "case0"), ("worst", "case1")]


def row(case, dice, value=1, status="scored"):
    return Row(case, "", value, "", status, dict.fromkeys(METRICS, dice))


def test_cases_are_ranked_by_the_mean_over_the_foreground_where_all_files_are_there():
    rows = [row("a", 0.4), row("a", 0.8, value=2), row("b", 0.7), row("b", math.nan, value=2), row("a", 0.0, value=0)]
    rows += [row("lost", 0.9), row("no mask", 0.0, status="missing"), row("empty", math.nan)]
    paths = dict.fromkeys(["a", "b", "no mask", "empty"], "file")
    files = ExampleFiles(paths, paths, (paths,))
    assert rank_cases(rows, files) == [("b", 0.7), ("a", pytest.approx(0.6))]
    assert rank_cases([], files) == []


def test_dice_is_the_mean_over_the_classes_that_are_there():
    truth = np.array([[1, 1, 2, 0]])
    assert calculate_foreground_dice(truth, truth, {0: "", 1: "", 2: "", 3: ""}) == 1
    assert calculate_foreground_dice(np.array([[1, 0, 0, 9]]), truth, {}) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert math.isnan(calculate_foreground_dice(truth * 0, truth * 0, {1: ""}))


class Shelf(ExampleFiles):
    """Cases whose masks are known by their number: the n-th of nine has n voxels right."""

    def read_masks(self, case):
        truth, mask = np.zeros((9, 1), int), np.zeros((9, 1), int)
        truth[:9], mask[: int(case)] = 1, 1
        return truth, (mask, truth), None


def test_cases_are_spread_from_the_highest_to_the_lowest_dice():
    paths = {str(number): "file" for number in range(1, 10)}
    files = Shelf(paths, paths, (paths, paths))
    assert spread_cases(files, {1: ""}, 3) == ["9", "5", "1"]
    assert sorted(spread_cases(files, {1: ""}, 50)) == sorted(paths)
    assert spread_cases(Shelf({}, {}, ({},)), {}, 3) == []


def test_by_scores_cases_are_spread_alike_without_a_look_at_the_masks():
    paths = {str(number): "no such file" for number in range(1, 10)}
    files = ExampleFiles(paths, paths, (paths, paths))
    rising = [row(case, int(case) / 9) for case in paths]
    falling = [row(case, 1 - int(case) / 90) for case in paths]
    assert spread_cases_by_scores([rising, rising], files, 3) == ["9", "5", "1"]
    assert spread_cases_by_scores([rising, falling], files, 2) == ["9", "1"]
    assert spread_cases_by_scores([rising, rising[:4]], files, 9) == ["4", "3", "2", "1"]
    assert spread_cases_by_scores([rising, []], files, 3) == []
