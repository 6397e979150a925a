"""MONAI's transforms and windows become steps with all their parameters, or are refused by name."""

import pytest
import torch
from monai import transforms
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from medseg.errors import BundleError
from medseg.inference.postprocess import KeepLargestd
from medseg.inference.steps.translate import (
    require,
    translate_label_steps,
    translate_preprocessing,
    translate_windows,
)


def translate(*steps, axes=3):
    return translate_preprocessing(Compose([LoadImaged("image"), EnsureChannelFirstd("image"), *steps]), axes)


def refused(call, *arguments, **options) -> str:
    with pytest.raises(BundleError) as caught:
        call(*arguments, **options)
    assert caught.value.code == "EXPORT_UNSUPPORTED"
    return str(caught.value)


def test_loading_alone_takes_no_step():
    assert translate() == ()


def test_a_step_keeps_its_name_and_every_parameter():
    spacing = transforms.Spacingd("image", (1.0, 2.0, 3.0), mode="bilinear")
    scale = transforms.ScaleIntensityRanged("image", -100, 300, 0, 1, clip=True)
    assert translate(spacing, scale) == (
        {"step": "Spacing", "pixdim": [1.0, 2.0, 3.0], "diagonal": False},
        {"step": "ScaleIntensityRange", "a_min": -100.0, "a_max": 300.0, "b_min": 0.0, "b_max": 1.0, "clip": True},
    )


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (transforms.GaussianSmoothd("image", 1.0), "GaussianSmoothd"),
        (transforms.Spacingd("image", (1, 1, 1), mode="nearest"), "mode nearest"),
        (transforms.Spacingd("image", (1, 1, 1), mode="bilinear", padding_mode="zeros"), "padding_mode zeros"),
        (transforms.Resized("image", (4, 4, 4), mode="area"), "mode area"),
        (transforms.ScaleIntensityRanged(["image", "label"], 0, 1, 0, 1), "keys"),
        (transforms.EnsureTyped("image", dtype=torch.float64), "float64"),
        (transforms.CropForegroundd("image", source_key="label", allow_missing_keys=True), "source_key label"),
        (transforms.SpatialPadd("image", (9, 9, 9), mode="wrap"), "mode wrap"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_exact_counterpart_is_refused_and_told(step, told):
    assert told in refused(translate, step)


def test_chains_that_do_not_begin_by_loading_with_channels_first_are_refused():
    assert "LoadImaged" in refused(translate_preprocessing, Compose([EnsureChannelFirstd("image")]), 3)
    assert "preprocessing" in refused(translate_preprocessing, Compose([]), 3)
    alone = Compose([LoadImaged("image"), transforms.ScaleIntensityd("image")])
    assert "EnsureChannelFirstd" in refused(translate_preprocessing, alone, 3)
    lazy = Compose([LoadImaged("image"), EnsureChannelFirstd("image")], lazy=True)
    assert "lazy" in refused(translate_preprocessing, lazy, 3)


def test_steps_on_labels_are_the_largest_pieces_alone():
    assert translate_label_steps([]) == ()
    assert translate_label_steps([KeepLargestd("pred", [1, 2])]) == ({"step": "KeepLargest", "labels": [1, 2]},)
    assert "FillHolesd" in refused(translate_label_steps, [transforms.FillHolesd("pred")])
    assert "key" in refused(translate_label_steps, [KeepLargestd("label", [1])])


def test_windows_keep_size_overlap_batch_and_weights():
    plan = translate_windows(
        SlidingWindowInferer((8, 6, 4), 2, (0.5, 0.25, 0), "gaussian", sigma_scale=0.2, cval=1.5), 3
    )
    assert (plan.roi, plan.overlap, plan.batch) == ((8, 6, 4), (0.5, 0.25, 0.0), 2)
    assert (plan.mode, plan.sigma_scale, plan.cval, plan.slice_axis) == ("gaussian", (0.2,) * 3, 1.5, None)


def test_windows_of_slices_lie_across_their_axis():
    plan = translate_windows(SliceInferer(spatial_dim=1, roi_size=(8, 6), sw_batch_size=3), 2)
    assert (plan.roi, plan.slice_axis, plan.batch) == ((8, 1, 6), 1, 3)


@pytest.mark.parametrize(
    ("inferer", "told"),
    [
        (SimpleInferer(), "SimpleInferer"),
        (SlidingWindowInferer((8, 8, -1)), "size"),
        (SlidingWindowInferer((8, 8, 8), sigma_scale=(0.1, 0.2)), "sigma_scale"),
    ],
)
def test_windows_that_an_export_cannot_lay_are_refused(inferer, told):
    assert told in refused(translate_windows, inferer, 3)


def test_nothing_is_said_of_what_holds():
    require(True, "part", "what does not hold")
    assert "part" in refused(require, False, "part", "what does not hold")
