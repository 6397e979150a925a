"""What a bundle would make of an image is held against the memory budget before it is made."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.data.cases.case import Case
from medseg.data.formats.payload import memory_budget
from medseg.errors import ImageError
from medseg.inference.input_checks import (
    check_axes,
    check_channels,
    check_finite,
    check_output,
    check_scores,
    check_spacing,
)

CASE = Case(id="one", images=("a.nii",), label=None, group="one")


def image(shape, spacing_mm):
    return MetaTensor(torch.zeros(1, *shape), affine=np.diag([*spacing_mm, 1.0]))


def test_the_scores_of_many_classes_are_counted():
    with memory_budget(1000 * 5 * 4):
        check_scores(image((10, 10, 10), (1.0, 1.0, 1.0)), 5, "case")
        with pytest.raises(ImageError, match="MEMORY_BUDGET"):
            check_scores(image((10, 10, 10), (1.0, 1.0, 1.0)), 6, "case")


@pytest.mark.parametrize(("found", "code"), [(2, "IMAGE_NOT_3D"), (4, "IMAGE_NOT_2D")])
def test_images_of_other_axes_are_refused(found, code):
    check_axes(3, 3, CASE)
    with pytest.raises(ImageError, match=code):
        check_axes(found, 3, CASE)


def test_channels_and_numbers_are_counted():
    check_channels(2, ("T1", "T2"), CASE)
    with pytest.raises(ImageError, match=r"CHANNEL_COUNT.*3 channel.*takes 2 \(T1, T2\)"):
        check_channels(3, ("T1", "T2"), CASE)
    check_finite(0, 8, CASE)
    with pytest.raises(ImageError, match="NONFINITE_VOXELS.*3 of 8"):
        check_finite(3, 8, CASE)


def test_logits_that_are_no_numbers_are_refused():
    check_output(True, "one")
    with pytest.raises(ImageError, match="OUTPUT_NONFINITE"):
        check_output(False, "one")


def test_a_spacing_that_would_blow_an_image_up_is_refused():
    wide = image((10, 10, 10), (40.0, 40.0, 40.0))
    with memory_budget(400**3 * 4):
        check_spacing(wide, (1.0, 1.0, 1.0), "case")
    with memory_budget(400**3 * 4 - 1), pytest.raises(ImageError, match="MEMORY_BUDGET"):
        check_spacing(wide, (1.0, 1.0, 1.0), "case")
