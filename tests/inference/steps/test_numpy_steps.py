"""Steps of an exported bundle are those of the table, with their parameters, and lead back from any grid."""

import numpy as np
import pytest
import torch

from medseg.inference.restore import Discretisation
from medseg.inference.steps.numpy_image import Image
from medseg.inference.steps.numpy_steps import (
    BEFORE,
    apply_label_steps,
    apply_steps,
    check_steps,
    is_oblique,
    restore_oblique,
)


def test_steps_of_other_names_or_parameters_are_refused():
    for step in ({"step": "Blur"}, {"step": "Resize"}, {"step": "Resize", "spatial_size": [3], "mode": "area"}, {}):
        with pytest.raises(ValueError):
            check_steps([step], BEFORE)


SHEARED = np.array([[-1.3, 0, 0, 0], [0, -0.9, 0.8, 0], [0, 0, 1.5, 0], [0, 0, 0, 1.0]])
SPACING = {"step": "Spacing", "pixdim": [1.0, 1.0, 1.0], "diagonal": False}


def smooth(*size):
    generator = torch.Generator().manual_seed(sum(size))
    coarse = torch.rand(1, size[0], *[max(2, n // 4) for n in size[1:]], generator=generator)
    return torch.nn.functional.interpolate(coarse, size[1:], mode="trilinear")[0].numpy()


def test_labels_find_back_from_a_sheared_grid_to_the_voxels_that_they_were_made_of():
    image = Image(smooth(1, 20, 18, 12), SHEARED)
    resampled = apply_steps(image, [SPACING])
    assert is_oblique(resampled)
    assert not is_oblique(apply_steps(Image(image.array, np.diag([-1.5, 1, 2, 1.0])), [SPACING]))
    logits = 40 * (np.concatenate([1 - resampled.array, resampled.array]) - 0.5)
    labels, probabilities = restore_oblique(logits, resampled, Discretisation("softmax", None, ()), True)
    assert labels.shape == image.size
    assert probabilities.shape == (2, *image.size)
    inner = (slice(2, -2),) * 3
    is_plain = (np.abs(image.array[0] - 0.5) > 0.05)[inner]
    assert is_plain.mean() > 0.5
    assert ((labels == (image.array[0] > 0.5))[inner][is_plain]).mean() > 0.99
    assert restore_oblique(logits, resampled, Discretisation("softmax", None, ()), False)[1] is None


def test_steps_on_labels_keep_the_largest_piece_and_none_change_nothing():
    mask = np.zeros((6, 4), np.uint8)
    mask[0, 0], mask[3:, 1:] = 1, 1
    assert apply_label_steps(mask, [{"step": "KeepLargest", "labels": [1]}]).sum() == 9
    assert np.array_equal(apply_label_steps(mask, []), mask)
