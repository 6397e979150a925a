import pytest
import torch

from medseg.networks.unet import AttentionGate, ConvolutionBlock, Layers, crop

LAYERS = Layers(spatial_dims=2)


def test_crop_about_the_centre_takes_as_much_from_both_ends():
    x = torch.arange(6.0).view(1, 1, 1, 6)

    assert crop(x, torch.zeros(1, 1, 1, 2), is_centred=True).flatten().tolist() == [2, 3]


def test_crop_at_the_end_keeps_the_beginning():
    x = torch.arange(6.0).view(1, 1, 1, 6)

    assert crop(x, torch.zeros(1, 1, 1, 2), is_centred=False).flatten().tolist() == [0, 1]


def test_crop_to_the_same_size_changes_nothing():
    x = torch.randn(2, 3, 4, 5, 6)

    assert crop(x, x, is_centred=True) is x  # a cut that takes nothing would be copied on the way back


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_pooling_rounds_up_and_keeps_the_last_element(n):
    x = torch.arange(float(n)).view(1, 1, n, 1)

    pooled = LAYERS.pooling()(x).flatten()

    assert len(pooled) == (n + 1) // 2
    assert pooled[-1] == n - 1


def test_a_residual_block_with_silent_convolutions_passes_its_shortcut():
    block = ConvolutionBlock(Layers(2, norm="none"), 1, 1, is_residual=True, dropout=0.0)
    for parameter in block.parameters():
        parameter.data.zero_()
    block.shortcut[0].weight.data.fill_(1.0)
    x = torch.tensor([[[[-1.0, 2.0], [3.0, -4.0]]]])

    assert torch.equal(block(x), x.relu())


def test_a_plain_block_has_no_shortcut():
    assert ConvolutionBlock(LAYERS, 1, 2, is_residual=False, dropout=0.0).shortcut is None


def gate_with_psi(bias):
    """A gate whose weight is sigmoid(bias) everywhere, and whose result passes it on."""
    gate = AttentionGate(Layers(2, norm="none"), channels=1, deeper_channels=2)
    gate.psi[0].weight.data.zero_()
    gate.psi[0].bias.data.fill_(bias)
    gate.result[0].weight.data.fill_(1.0)
    gate.result[0].bias.data.zero_()
    return gate


@pytest.mark.parametrize(("bias", "share"), [(100.0, 1.0), (0.0, 0.5), (-100.0, 0.0)])
def test_a_gate_multiplies_the_skip_with_a_weight_from_0_to_1(bias, share):
    skip, deeper = torch.randn(1, 1, 5, 4), torch.randn(1, 2, 3, 2)

    torch.testing.assert_close(gate_with_psi(bias)(skip, deeper), share * skip)


def test_a_gate_has_the_published_layers():
    """Gating, θ, φ, transposed convolution, ψ and result, with two batch norms, by hand."""
    C = 4
    gate = AttentionGate(LAYERS, channels=C, deeper_channels=2 * C)
    convolutions = (2 * C * C + C) + (4 * C * C + C) + (C * C + C) + (9 * C * C + C) + (C + 1) + (C * C + C)

    assert sum(parameter.numel() for parameter in gate.parameters()) == convolutions + 2 * 2 * C


@pytest.mark.parametrize("channels", [3, 8, 20])
def test_group_norm_divides_any_number_of_channels(channels):
    layers = Layers(2, norm="group")
    norm = layers.normalised(layers.convolution(1, channels), channels)[1]

    assert channels % norm.num_groups == 0
    assert norm.num_groups <= 8
