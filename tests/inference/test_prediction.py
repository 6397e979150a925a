"""Nothing but labels on the image's grid passes for a mask."""

import numpy as np
import pytest

from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.errors import ImageError
from medseg.inference.prediction import (
    EXPORT_NAME,
    Prediction,
    describe_emptiness,
    is_exported,
    keep_largest_pieces,
    measure_volumes_ml,
    read_labels,
)


def case_of(path):
    return Case(id="one", images=(str(path),), label=None, group="one")


def test_volumes_are_voxels_times_their_size():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2] = 1
    made = Prediction(labels, np.diag([10.0, 10.0, 5.0, 1.0]), None)
    assert dict(measure_volumes_ml(made, {0: "background", 1: "ball", 2: "absent"})) == {"ball": 4.0, "absent": 0.0}


@pytest.mark.parametrize(
    ("pred", "problem"),
    [
        (np.array([[[0, 256]]]), "holds .256"),
        (np.array([[[0.4, 1]]]), "holds .0.4"),
        (np.array([[[1, 0]], [[1, 0]]]), "overlap"),
        (np.array([[[0.5, 0.2]], [[0.5, 0.8]]]), "overlap"),
        (np.zeros((3, 1, 2)), "3 channels for 2"),
    ],
)
def test_what_is_no_mask_is_refused_instead_of_rounded(tiny_bundle, pred, problem):
    with pytest.raises(ImageError, match=f"OUTPUT_NOT_LABELS.*{problem}"):
        read_labels(pred, open_bundle(tiny_bundle), case_of("a"))


def test_one_hot_classes_become_labels(tiny_bundle):
    one_hot = np.array([[[1, 0]], [[0, 1]]])
    assert read_labels(one_hot, open_bundle(tiny_bundle), case_of("a")).tolist() == [[0, 1]]


@pytest.mark.parametrize(("is_air", "code"), [(True, "IMAGE_ALL_AIR"), (False, "MASK_EMPTY")])
def test_a_mask_without_structures_says_why(is_air, code):
    assert describe_emptiness(np.zeros((2, 2, 2), np.uint8), is_air).startswith(code)
    assert describe_emptiness(np.ones((2, 2, 2), np.uint8), is_air) == ""


def test_of_a_structure_in_pieces_the_largest_stays_and_others_are_left_alone():
    mask = np.zeros((7, 5), np.uint8)
    mask[:2, :2], mask[4:, 1:4], mask[0, 4] = 1, 1, 2
    mask[6, 4] = 2
    kept = keep_largest_pieces(mask, [1])
    assert (kept == 1).sum() == 9
    assert (kept == 2).sum() == (mask == 2).sum() == 2
    assert keep_largest_pieces(np.zeros((3, 3), np.uint8), [1, 2]).sum() == 0


def test_a_folder_is_an_exported_bundle_by_its_description(tmp_path):
    assert not is_exported(tmp_path)
    (tmp_path / EXPORT_NAME).write_text("{}")
    assert is_exported(tmp_path)
