import inspect
import math

import pytest
import torch

from medseg.errors import UsageError
from medseg.networks import MONAI_NETWORKS, NETWORKS, PUBLISHED, UNET_OPTIONS, build_network, count_parameters
from medseg.networks.unet import UNet

NEEDS_EINOPS = ("SwinUNETR", "UNETR")
# What keeps the largest of MONAI's networks, and the sizes that they ask for, small in a test.
SMALL = {
    "AttentionUnet": {"channels": (4, 8), "strides": (2,)},
    "SwinUNETR": {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    "UNETR": {"img_size": 32, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2, "feature_size": 4},
    "VNet": {"dropout_prob_down": None},
    "UNet": {"channels": (4, 8), "strides": (2,)},
    "DynUNet": {"filters": (4, 8, 8, 16, 16)},
    "MedNeXt": {"init_filters": 4, "kernel_size": 3},
    "SegResNet": {"init_filters": 8},
    "SegResNetDS": {"init_filters": 8},
}
SIZES = {"SwinUNETR": 64, "FlexibleUNet": 64, "HighResNet": 8}


def small_network(name, spatial_dims, out_channels=3):
    if name in NEEDS_EINOPS:
        pytest.importorskip("einops")
    ours = {"filters": 2, "depth": 2}
    return build_network(name, spatial_dims, 1, out_channels, unet_options=ours, **SMALL.get(name, {}))


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_each_published_network_has_exactly_the_published_size(published):
    with torch.device("meta"):
        network = published.build()

    assert count_parameters(network) == published.parameters


def test_the_published_sizes_are_those_of_the_articles():
    assert {name: network.parameters for name, network in PUBLISHED.items()} == {
        "unet_variants/unet/rgb": 31_402_501,
        "unet_variants/unet/heart": 31_401_556,
        "unet_variants/res-unet/heart": 33_157_140,
        "unet_variants/attention-res-unet/heart": 39_089_304,
        "isbi_and_lung/unet/64": 31_054_145,
        "isbi_and_lung/unet/16": 1_940_817,
    }


def test_running_statistics_count_as_parameters_but_not_as_trainable_ones():
    with torch.device("meta"):
        network = PUBLISHED["unet_variants/unet/rgb"].build()

    assert sum(parameter.numel() for parameter in network.parameters()) == 31_390_723


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", [*NETWORKS, *MONAI_NETWORKS])
def test_every_named_network_gives_one_finite_tensor_per_class_and_learns(name, spatial_dims):
    if name in ("SwinUNETR", "FlexibleUNet") and spatial_dims == 3:
        pytest.skip("too slow in 3D for a small machine; see the slow test")
    size = SIZES.get(name, 32 if name in MONAI_NETWORKS else 8)
    network = small_network(name, spatial_dims)

    logits = network(torch.randn(2, 1, *(size,) * spatial_dims))
    logits.square().mean().backward()

    assert logits.shape == (2, 3, *(size,) * spatial_dims)
    assert logits.isfinite().all()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SwinUNETR", "FlexibleUNet"])
def test_the_largest_networks_work_in_3d(name):
    logits = small_network(name, 3)(torch.randn(1, 1, 64, 64, 64))

    assert logits.shape == (1, 3, 64, 64, 64)


def test_dynunet_needs_nothing_beyond_its_channels():
    network = build_network("DynUNet", spatial_dims=3, in_channels=1, out_channels=3)

    with torch.device("meta"):
        assert network.to("meta")(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 3, 32, 32, 32)


@pytest.mark.parametrize(("name", "near"), [("unett", "unet"), ("atention-res-unet", "attention-res-unet")])
def test_an_unknown_network_is_refused_with_the_nearest_name(name, near):
    with pytest.raises(UsageError, match=f"did you mean {near}") as raised:
        build_network(name, 2, 1, 1)

    assert raised.value.code == "NAME_UNKNOWN"


def test_a_name_like_no_other_is_refused_with_all_names():
    with pytest.raises(UsageError, match="attention-res-unet"):
        build_network("zzzz", 2, 1, 1)


@pytest.mark.parametrize("name", ["unet", "DynUNet"])
def test_an_unknown_option_is_refused_with_the_nearest_name(name):
    with pytest.raises(UsageError, match="filters") as raised:
        build_network(name, 2, 1, 1, filter=8)

    assert raised.value.code == "SETTING_UNKNOWN"


def test_the_form_belongs_to_the_name_and_cannot_be_contradicted_by_an_option():
    with pytest.raises(UsageError) as raised:
        build_network("unet", 2, 1, 1, residual=True)

    assert raised.value.code == "SETTING_UNKNOWN"
    assert "residual" not in UNET_OPTIONS


def test_unet_options_mean_nothing_to_monai_networks_so_that_a_name_can_be_swapped():
    plain = build_network("BasicUNet", 2, 1, 2)
    swapped = build_network("BasicUNet", 2, 1, 2, unet_options={"filters": 2, "depth": 1})

    assert count_parameters(swapped) == count_parameters(plain)


def test_unet_options_are_checked_even_where_they_are_left_aside():
    with pytest.raises(UsageError) as raised:
        build_network("BasicUNet", 2, 1, 2, unet_options={"filterz": 2})

    assert raised.value.code == "SETTING_UNKNOWN"


def test_an_option_wins_over_unet_options():
    network = build_network("unet", 2, 1, 1, unet_options={"filters": 8, "depth": 1}, filters=2)

    assert network.encoder[0].convolutions[0].out_channels == 2
    assert len(network.encoder) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("UNet", {"channels": (4,)}),
        ("VNet", {"act": "no such activation"}),
        ("DynUNet", {"kernel_size": 3}),
        ("DynUNet", {"deep_supervision": True}),
        ("SegResNetDS", {"dsdepth": 3}),
    ],
)
def test_a_value_that_a_monai_network_cannot_have_is_a_usage_error(name, options):
    with pytest.raises(UsageError) as raised:
        build_network(name, 3, 1, 2, **options)

    assert raised.value.code == "SETTING_INVALID"


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (2, 0, 1), (2, 1, 0), (2, 1, 1.5), ("2", 1, 1)])
@pytest.mark.parametrize("name", ["unet", "BasicUNet"])
def test_impossible_dimensions_and_channels_are_refused(name, shape):
    with pytest.raises(UsageError) as raised:
        build_network(name, *shape)

    assert raised.value.code == "SETTING_INVALID"


def test_a_missing_package_is_named(monkeypatch):
    from monai.networks import nets

    def needs_einops(**arguments):
        raise ImportError("from einops import rearrange (No module named 'einops').\n\nFor details …")

    needs_einops.__signature__ = inspect.signature(nets.SwinUNETR)
    monkeypatch.setattr(nets, "SwinUNETR", needs_einops)

    with pytest.raises(UsageError, match=r"No module named 'einops'.*install") as raised:
        build_network("SwinUNETR", 2, 1, 1)

    assert raised.value.code == "PACKAGE_MISSING"
    assert "For details" not in str(raised.value)


def test_one_seed_gives_one_network():
    weights = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in build_network("unet", 2, 1, 1, filters=2).parameters()]))

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_plain_network_has_the_size_that_its_formula_gives():
    """Without norm: two 3^d convolutions per block, a 2^d transposed one per level, a 1×1 head."""

    def by_hand(dims, depth=2, first=3):
        def conv(inputs, outputs, kernel):
            return inputs * outputs * kernel**dims + outputs

        channels = [first * 2**level for level in range(depth + 1)]
        total = conv(channels[0], 2, 1)
        for level, (inputs, outputs) in enumerate(zip([1, *channels], channels, strict=False)):
            total += conv(inputs, outputs, 3) + conv(outputs, outputs, 3)
            if level < depth:
                total += conv(2 * outputs, outputs, 2) + conv(2 * outputs, outputs, 3) + conv(outputs, outputs, 3)
        return total

    for dims in (2, 3):
        network = build_network("unet", dims, 1, 2, filters=3, depth=2, norm="none")
        assert isinstance(network, UNet)
        assert count_parameters(network) == by_hand(dims)
        assert math.prod(network.encoder[0].convolutions[0].kernel_size) == 3**dims
