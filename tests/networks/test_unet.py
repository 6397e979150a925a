import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.errors import UsageError
from medseg.networks import NETWORKS, build_network
from medseg.networks.unet import UNet, UNetSettings

SIZES = {2: (7, 10), 3: (5, 6, 3)}
MODES = {"transposed", "nearest", "linear"}


def tiny(name="unet", spatial_dims=2, **options):
    torch.manual_seed(0)
    return build_network(name, spatial_dims, 1, 2, **{"filters": 2, "depth": 2, **options}).eval()


def image(spatial_dims=2, batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 1, *SIZES[spatial_dims], generator=generator)


@given(name=st.sampled_from(list(NETWORKS)), sizes=st.lists(st.integers(1, 9), min_size=2, max_size=3))
@settings(max_examples=25, deadline=None)
def test_any_size_comes_out_as_it_went_in(name, sizes):
    network = tiny(name, len(sizes), upsampling="linear")

    assert network(torch.randn(2, 1, *sizes)).shape == (2, 2, *sizes)


@pytest.mark.parametrize("upsampling", sorted(MODES))
@pytest.mark.parametrize("name", NETWORKS)
def test_an_odd_size_gives_what_a_padded_even_size_gives_far_from_the_padding(name, upsampling):
    """Rounding up does not shift the levels: beyond the field of view nothing changes."""
    network = tiny(name, depth=1, upsampling=upsampling)
    odd = torch.randn(1, 1, 31, 8)
    even = nn.functional.pad(odd, (0, 0, 0, 1))

    torch.testing.assert_close(network(odd)[:, :, :16], network(even)[:, :, :16])


@pytest.mark.parametrize("name", NETWORKS)
def test_unpadded_convolutions_take_572_to_388(name):
    network = build_network(name, 2, 1, 2, filters=1, depth=4, norm="none", padding="valid").eval()

    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


@pytest.mark.parametrize("name", ["unet", "res-unet"])
def test_an_unpadded_output_is_the_centre_of_what_a_larger_image_gives(name):
    """Without padding, an output pixel depends on the image alone, not on where it was cut."""
    network = tiny(name, depth=1, padding="valid", dilation=2)
    whole = torch.randn(1, 1, 40, 40)

    torch.testing.assert_close(network(whole)[:, :, 2:-2, 2:-2], network(whole[:, :, 2:-2, 2:-2]))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_reaches_every_parameter(name, spatial_dims):
    network = tiny(name, spatial_dims, norm="none", activation="elu").train()

    network(image(spatial_dims)).square().sum().backward()

    assert [label for label, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def inflate(flat, stack):
    """Give a 3D network the weights of its 2D twin, so that slices do not mix."""
    for flat_layer, stack_layer in zip(flat.modules(), stack.modules(), strict=True):
        assert type(flat_layer).__name__.replace("2d", "3d") == type(stack_layer).__name__
        for name, weight in flat_layer.named_parameters(recurse=False):
            target = stack_layer.get_parameter(name).data
            if weight.ndim < 4:
                target.copy_(weight)
            elif isinstance(flat_layer, nn.ConvTranspose2d) and weight.shape[-1] == 2:
                target.copy_(weight.unsqueeze(-1).expand_as(target))
            else:
                target.zero_()
                target[..., (target.shape[-1] - 1) // 2] = weight


@pytest.mark.parametrize("upsampling", sorted(MODES))
@pytest.mark.parametrize("name", NETWORKS)
def test_the_3d_form_is_the_twin_of_the_2d_form(name, upsampling):
    flat, stack = tiny(name, 2, upsampling=upsampling), tiny(name, 3, upsampling=upsampling)
    inflate(flat, stack)
    slice_ = torch.randn(1, 1, 9, 8)

    stacked = stack(slice_.unsqueeze(-1).repeat(1, 1, 1, 1, 4))

    for z in range(4):
        torch.testing.assert_close(stacked[..., z], flat(slice_))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("name", NETWORKS)
def test_torchscript_gives_the_same_logits_by_script_and_by_trace(name, padding, spatial_dims):
    network = tiny(name, spatial_dims, padding=padding, depth=1, head_norm=True, dropout=0.2)
    sizes = SIZES[spatial_dims] if padding == "same" else (20,) * spatial_dims
    x = torch.randn(1, 1, *sizes)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(network, x)

    torch.testing.assert_close(torch.jit.script(network)(x), network(x))
    torch.testing.assert_close(traced(x), network(x))


def exported(network, x, path, **how):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), input_names=["image"], **how)
    session = runtime.InferenceSession(str(path))
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_the_same_logits_at_any_size(tmp_path, name, spatial_dims):
    network = tiny(name, spatial_dims, upsampling="linear")
    axes = {"image": {axis + 2: f"size_{axis}" for axis in range(spatial_dims)}}
    run = exported(network, image(spatial_dims), tmp_path / "network.onnx", dynamo=False, dynamic_axes=axes)

    for x in (image(spatial_dims), torch.randn(1, 1, *(11, 4, 9)[:spatial_dims])):
        torch.testing.assert_close(run(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_onnx_by_torch_export_gives_the_same_logits(tmp_path, spatial_dims):
    pytest.importorskip("onnxscript")
    network = tiny("attention-res-unet", spatial_dims)
    run = exported(network, image(spatial_dims), tmp_path / "network.onnx", dynamo=True, verbose=False)

    torch.testing.assert_close(run(image(spatial_dims)), network(image(spatial_dims)), rtol=1e-4, atol=1e-4)


def test_weights_start_from_hes_gaussian_and_biases_from_zero():
    torch.manual_seed(0)
    network = build_network("unet", 2, 1, 1, filters=32, depth=1)
    layer = network.bottleneck.convolutions[3]

    assert layer.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert not layer.bias.any()


def count(network, kind):
    return sum(isinstance(layer, kind) for layer in network.modules())


def test_dropout_acts_at_the_chosen_levels_only():
    assert count(tiny(), nn.Dropout) == 0
    assert count(tiny(dropout=0.3), nn.Dropout) == 5  # two encoder, two decoder levels, the bottleneck
    assert count(tiny(dropout=0.3, dropout_levels=[2]), nn.Dropout) == 1
    assert count(tiny(dropout=0.3, dropout_levels=[0, 1]), nn.Dropout) == 4
    assert count(tiny(dropout=0.3, dropout_levels=[]), nn.Dropout) == 0
    assert isinstance(tiny(dropout=0.3, dropout_levels=[2]).bottleneck.dropout, nn.Dropout)


def test_dropout_acts_in_training_only():
    network = tiny(dropout=0.5, norm="none")
    x = image()

    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d), ("group", nn.GroupNorm)]
)
def test_the_chosen_norm_follows_every_convolution_of_a_block(norm, kind):
    assert count(tiny(norm=norm), kind) == 10
    assert count(tiny("res-unet", norm=norm), kind) == 15
    assert count(tiny(norm="none"), kind) == 0


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", nn.ReLU), ("prelu", nn.PReLU), ("elu", nn.ELU), ("leakyrelu", nn.LeakyReLU)]
)
def test_the_chosen_activation_is_the_only_one(activation, kind):
    network = tiny(activation=activation)

    assert count(network, kind) == 10
    assert count(network, nn.ReLU | nn.PReLU | nn.ELU | nn.LeakyReLU) == 10


def test_only_the_bottleneck_is_dilated():
    network = tiny(dilation=2)
    dilated = {name for name, layer in network.named_modules() if getattr(layer, "dilation", None) == (2, 2)}

    assert dilated == {"bottleneck.convolutions.0", "bottleneck.convolutions.3"}
    assert network(image()).shape == (1, 2, *SIZES[2])


def test_channels_double_up_to_the_cap():
    choices = UNetSettings(filters=32, depth=5, max_filters=320)

    assert [choices.channels(level) for level in range(6)] == [32, 64, 128, 256, 320, 320]
    assert tiny("attention-res-unet", max_filters=3)(image()).shape == (1, 2, *SIZES[2])


def test_the_head_ends_in_batch_norm_where_asked():
    assert [type(layer) for layer in tiny(head_norm=True).head] == [nn.Conv2d, nn.BatchNorm2d]
    assert [type(layer) for layer in tiny().head] == [nn.Conv2d]


def test_default_settings_build_a_network():
    assert UNet(2, 3, 4)(torch.zeros(2, 3, 16, 16)).shape == (2, 4, 16, 16)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("filters", 0),
        ("filters", 2.5),
        ("depth", 0),
        ("depth", True),
        ("norm", "layer"),
        ("norm", None),
        ("activation", "ReLU"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", "0.1"),
        ("dropout_levels", [5]),
        ("dropout_levels", "3"),
        ("dropout_levels", 3),
        ("upsampling", "bicubic"),
        ("residual", "yes"),
        ("dilation", 0),
        ("padding", "full"),
        ("max_filters", 0),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_by_the_options_name(option, value):
    with pytest.raises(UsageError, match=option) as raised:
        UNetSettings(**{option: value})

    assert raised.value.code == "SETTING_INVALID"
