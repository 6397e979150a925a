"""MONAI's own transforms are the oracle of what is made quicker, and of what is read out of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureChannelFirstd, Invertd, Orientationd, Spacingd

from medseg.data.formats.payload import memory_budget
from medseg.errors import ImageError
from medseg.inference.steps.monai_steps import check_resampled, quicken, read_discretisation


def image_of(shape, affine, seed=0):
    return MetaTensor(torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)), affine=torch.tensor(affine))


def both(pixdim, mode="bilinear", **options):
    chains = [Compose([Spacingd("image", pixdim, mode=mode, **options)]) for _ in range(2)]
    quicken(chains[0])
    return chains


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), atol=2e-5, rtol=0)
    assert np.allclose(found.affine, expected.affine)
    known = ("class", "orig_size", "extra_info")
    for mine, theirs in zip(found.applied_operations, expected.applied_operations, strict=True):
        for key in known:
            assert str(mine[key]).replace("'dtype'", "") == str(theirs[key]).replace("'dtype'", ""), key


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 5)] * 3),
    pixdim=st.tuples(*[st.floats(0.5, 4)] * 3),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_voxels_and_metadata_are_those_of_monai(shape, spacing, pixdim, signs):
    affine = np.diag([*np.multiply(spacing, signs), 1.0])
    affine[:3, 3] = 5, -3, 8
    image = image_of(shape, affine)
    made = [chain({"image": image}) for chain in both(pixdim)]
    assert_same(made[0]["image"], made[1]["image"])


def test_the_way_back_is_that_of_monai():
    image = image_of((9, 11, 7), np.diag([1.0, 2.0, 3.0, 1.0]))
    backs = []
    for chain in both((1.7, 1.7, 1.7)):
        data = chain({"image": image})
        backs.append(Invertd("image", chain, nearest_interp=False)(data)["image"])
    assert_same(backs[0], backs[1])


@pytest.mark.parametrize("size", [(13, 8), (1, 5)])
def test_pictures_are_resampled_alike(size):
    image = image_of(size, np.diag([0.7, 1.3, 1.0, 1.0]))
    found, expected = (chain({"image": image})["image"] for chain in both((1.0, 1.0)))
    assert_same(found, expected)


def oblique():
    turned = np.array([[0.98, -0.17, 0, 5], [0.17, 0.98, 0, -7], [0, 0, 2, 2], [0, 0, 0, 1.0]])
    return turned @ np.diag([1.0, 1.5, 1.0, 1.0])


@pytest.mark.parametrize(
    ("affine", "pixdim", "options"),
    [
        (oblique(), (1.0, 1.0, 1.0), {"diagonal": True}),
        (oblique(), (1.0, 1.0, 1.0), {}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 2.0), {"mode": "nearest"}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 2.0), {"mode": 0, "padding_mode": "nearest"}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 2.0), {"mode": 1, "padding_mode": "nearest"}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 2.0), {"padding_mode": "zeros"}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 2.0), {"align_corners": True}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (1.0, 2.0, 3.0), {}),
        (np.diag([1.0, 2.0, 3.0, 1.0]), (1.0002, 2.0, 3.0), {}),
    ],
)
def test_what_cannot_be_done_along_axes_is_left_to_monai(affine, pixdim, options):
    image = image_of((9, 11, 7), affine)
    found, expected = (chain({"image": image})["image"] for chain in both(pixdim, **options))
    assert_same(found, expected)


def test_other_steps_stay_as_they_are():
    chain = Compose([EnsureChannelFirstd("image"), Orientationd("image", "RAS")])
    before = list(chain.transforms)
    quicken(chain)
    assert list(chain.transforms) == before


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


@pytest.mark.parametrize(
    "steps",
    [
        [AsDiscreted("pred", argmax=True)],
        [Activationsd("pred", softmax=True), AsDiscreted("pred", argmax=True)],
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", Compose([]), "image", nearest_interp=False, post_func=torch.sqrt),
            AsDiscreted("pred", argmax=True),
        ],
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", Compose([]), "image", nearest_interp=True),
            AsDiscreted("pred", argmax=True),
        ],
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", Compose([]), "image", nearest_interp=False),
            AsDiscreted("pred", argmax=True, to_onehot=3),
        ],
    ],
)
def test_another_postprocessing_is_left_to_monai(steps):
    assert read_discretisation(Compose(steps)) is None
