"""What a bundle would make of an image is held against the memory budget before it is made."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from medseg.data.payload import memory_budget
from medseg.errors import ImageError
from medseg.inference.input_checks import check_scores
from medseg.inference.steps.monai_steps import check_resampled


def image(shape, spacing_mm):
    return MetaTensor(torch.zeros(1, *shape), affine=np.diag([*spacing_mm, 1.0]))


def test_an_image_that_the_bundle_s_spacing_would_blow_up_is_refused():
    wide, transforms = image((10, 10, 10), (40.0, 40.0, 40.0)), [Spacingd("image", pixdim=(1.0, 1.0, 1.0))]
    grown_bytes = 400**3 * 4
    with memory_budget(grown_bytes):
        check_resampled(wide, transforms, "case")
    with memory_budget(grown_bytes - 1), pytest.raises(ImageError, match="MEMORY_BUDGET"):
        check_resampled(wide, transforms, "case")


def test_axes_that_keep_their_spacing_do_not_grow():
    kept = [Spacingd("image", pixdim=(1.0, -1.0, 0.0))]
    with memory_budget(400 * 10 * 10 * 4):
        check_resampled(image((10, 10, 10), (40.0, 40.0, 40.0)), kept, "case")


def test_a_bundle_that_does_not_resample_needs_nothing():
    with memory_budget(1):
        check_resampled(image((10, 10), (40.0, 40.0, 1.0)), [], "case")


def test_the_scores_of_many_classes_are_counted():
    with memory_budget(1000 * 5 * 4):
        check_scores(image((10, 10, 10), (1.0, 1.0, 1.0)), 5, "case")
        with pytest.raises(ImageError, match="MEMORY_BUDGET"):
            check_scores(image((10, 10, 10), (1.0, 1.0, 1.0)), 6, "case")
