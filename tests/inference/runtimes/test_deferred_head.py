import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet, UNet
from torch import nn

from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.runtimes.graph_optimiser import split_head
from medseg.networks import build_network

WINDOW = (1, 1, 16, 16, 16)


def many_classes(name, classes=20):
    torch.manual_seed(0)
    if name == "dynunet":
        return DynUNet(3, 1, classes, [3] * 3, [1, 2, 2], [2, 2], filters=(8, 16, 16)).eval()
    norm = name == "normalised"
    network = build_network("unet", 3, 1, classes, unet_options={"filters": 8, "depth": 2, "head_norm": norm})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("name", ["plain", "normalised", "dynunet"])
def test_logits_of_averaged_features_are_the_averaged_logits(name):
    network, image = many_classes(name), torch.randn(1, 1, 37, 20, 24)
    made = split_head(network, WINDOW, 20)
    assert (made.features, made.classes) == (8, 20)
    with torch.no_grad():
        expected = SlidingWindowInferer(16, 2, 0.5, mode="gaussian")(image, network)[0]
        found = torch.empty_like(expected)
        for slab in SlidingWindow(16, 2, 0.5, mode="gaussian").slabs(image[0], made.body):
            for part in made.finish(slab):
                found.narrow(slab.axis + 1, part.start, part.stop - part.start).copy_(part.logits)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_slices_of_a_2d_network_are_finished_as_a_volume():
    network = build_network("unet", 2, 1, 20, unet_options={"filters": 8, "depth": 2}).eval()
    image = torch.randn(1, 24, 20, 6)
    made = split_head(network, (1, 1, 16, 16), 20)
    window = SlidingWindow((16, 16), 2, 0.5, mode="gaussian", slice_axis=2)
    expected = torch.empty(20, *image.shape[1:])
    with torch.no_grad():
        for slab in window.slabs(image, network):
            expected.narrow(slab.axis + 1, slab.start, slab.stop - slab.start).copy_(slab.logits)
        for slab in window.slabs(image, made.body):
            for part in made.finish(slab):
                found = expected.narrow(part.axis + 1, part.start, part.stop - part.start)
                torch.testing.assert_close(part.logits, found, atol=1e-5, rtol=1e-5)


def test_rows_are_finished_a_few_at_a_time_and_none_is_left_out(monkeypatch):
    monkeypatch.setattr("medseg.inference.runtimes.graph_optimiser.HEAD_BYTES", 3 * 20 * 16 * 16 * 4)
    made = split_head(many_classes("plain"), WINDOW, 20)
    with torch.no_grad():
        (slab,) = SlidingWindow(16).slabs(torch.randn(WINDOW[1:]), made.body)
        parts = [(part.start, part.stop) for part in made.finish(slab)]
    assert parts == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 16)]


def test_a_network_with_fewer_classes_than_features_stays_whole():
    assert split_head(many_classes("plain", classes=3), WINDOW, 3) is None


class Looking(nn.Sequential):
    """Its way depends on what it sees."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Changing(nn.Sequential):
    """Something in place follows its last convolution."""

    def __init__(self, *layers, change):
        super().__init__()
        self.layers, self.change = nn.Sequential(*layers), change

    def forward(self, x):
        x = self.layers(x)
        self.change(x)
        return x


class Squashed(nn.Module):
    """Its last convolution is not the last step."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv3d(1, 20, 1)

    def forward(self, x):
        return torch.sigmoid(self.convolution(x))


class Seeing(nn.Sequential):
    """A Sequential that does more than its parts."""

    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize(
    "network",
    [
        Squashed(),
        nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 20, 1), nn.ReLU(inplace=True)),
        Changing(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 20, 1), change=lambda x: x[:, 0].add_(3)),
        Changing(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 20, 1), change=lambda x: x.clamp_(min=0)),
        Looking(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Conv3d(2, 20, 1)),
        Seeing(nn.Conv3d(1, 20, 1)),
        nn.Sequential(nn.Conv3d(1, 20, 3, padding=1)),
        nn.Sequential(nn.Conv3d(1, 20, 1), nn.InstanceNorm3d(20)),
        nn.Sequential(nn.Conv3d(1, 20, 1), nn.LeakyReLU()),
        nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 20, 1, padding=1)),
        UNet(3, 1, 20, channels=(8, 16), strides=(2,), num_res_units=1),
    ],
)
def test_what_is_not_affine_voxel_by_voxel_stays_whole(network):
    with torch.inference_mode():
        assert split_head(network.eval(), WINDOW, 20) is None


def test_the_network_itself_is_left_as_it_was():
    network, window = many_classes("plain"), torch.randn(WINDOW)
    before = network(window)
    split_head(network, WINDOW, 20)
    assert torch.equal(network(window), before)
    assert not any(module._forward_hooks for module in network.modules())
