"""Instance norms that keep an image's layout."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.inference.runtimes.graph import QuickInstanceNorm, quicken_norms

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def drawn(shape, seed=0, offset=0.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + offset


def norm_of(channels, axes, affine):
    norm = (nn.InstanceNorm2d if axes == 2 else nn.InstanceNorm3d)(channels, affine=affine)
    if affine:
        norm.weight.data = drawn(channels, 1)
        norm.bias.data = drawn(channels, 2)
    return norm.eval()


def exactly(norm, image):
    """In 64 bits."""
    return copy.deepcopy(norm).double()(image.double()).float()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 3), st.integers(1, 9), *[st.integers(2, 20)] * 2),
        st.tuples(st.integers(1, 2), st.integers(1, 9), *[st.integers(1, 12)] * 2, st.integers(2, 12)),
    ),
    affine=st.booleans(),
    offset=st.sampled_from([0.0, 9.0, 400.0]),
    is_last=st.booleans(),
)
def test_gives_what_pytorch_does_in_either_layout(shape, affine, offset, is_last):
    norm, image = norm_of(shape[1], len(shape) - 2, affine), drawn(shape, offset=offset)
    given_image = image.to(memory_format=LAYOUTS[len(shape)]) if is_last else image
    with torch.inference_mode():
        found = QuickInstanceNorm(norm)(given_image)
        exact = exactly(norm, image)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4 * (1 + offset))


@pytest.mark.parametrize("shape", [(2, 4, 64, 64, 64), (1, 3, 512, 512)])
def test_is_as_exact_for_many_voxels(shape):
    norm, image = norm_of(shape[1], len(shape) - 2, True), drawn(shape, offset=5)
    exact = exactly(norm, image)
    with torch.inference_mode():
        found = QuickInstanceNorm(norm)(image.to(memory_format=LAYOUTS[len(shape)]))
    assert (found - exact).abs().max() < 2e-5


def test_keeps_the_layout():
    image = drawn((2, 8, 8, 8, 16)).to(memory_format=torch.channels_last_3d)
    assert QuickInstanceNorm(norm_of(8, 3, True))(image).is_contiguous(memory_format=torch.channels_last_3d)


def test_a_constant_image_is_normalised_to_the_bias():
    norm, image = norm_of(3, 3, True), torch.full((1, 3, 8, 8, 8), 7.0).to(memory_format=torch.channels_last_3d)
    expected = norm.bias[None, :, None, None, None].expand_as(image)
    torch.testing.assert_close(QuickInstanceNorm(norm)(image), expected, rtol=0, atol=1e-3)


def test_refuses_a_single_voxel_as_pytorch_does():
    with pytest.raises(ValueError, match="spatial element"):
        norm_of(4, 3, False)(torch.ones(1, 4, 1, 1, 1))
    with pytest.raises(ValueError, match="spatial element"):
        QuickInstanceNorm(norm_of(4, 3, False))(torch.ones(1, 4, 1, 1, 1))


def test_16_bits_stay_16_bits():
    image = drawn((1, 4, 8, 8, 8)).bfloat16().to(memory_format=torch.channels_last_3d)
    norm = norm_of(4, 3, False)
    assert torch.equal(QuickInstanceNorm(norm)(image), norm(image))


def test_only_norms_that_take_the_images_own_statistics_are_replaced():
    watched = nn.InstanceNorm3d(4)
    watched.register_forward_hook(lambda *_: None)
    network = nn.Sequential(
        nn.Sequential(nn.InstanceNorm3d(4)), nn.InstanceNorm3d(4, track_running_stats=True), watched, nn.BatchNorm3d(4)
    )
    quicken_norms(network)
    kinds = [type(module) for module in (network[0][0], *network[1:])]
    assert kinds == [QuickInstanceNorm, nn.InstanceNorm3d, nn.InstanceNorm3d, nn.BatchNorm3d]
