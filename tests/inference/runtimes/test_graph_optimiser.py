"""An optimised network gives what the network gives, in less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.inference.runtimes.graph import trace
from medseg.inference.runtimes.graph_optimiser import OptimisedNetwork, fold_norms, optimise, write_in_place
from medseg.inference.runtimes.network_runner import measure_allocation
from medseg.networks import build_network

SHAPE = (2, 1, 8, 8, 8)


class TwiceNormed(nn.Module):
    """One norm after two convolutions, and one convolution's result taken by a norm and by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv3d(1, 3, 1), nn.Conv3d(3, 3, 3, padding=1), nn.BatchNorm3d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.norm(self.second(self.norm(y))) + y


class Shared(nn.Module):
    """An activation whose input is needed again, whole and as a view."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.activation = nn.Conv3d(1, 3, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        part = y[:, :, :4]
        z = self.activation(y)
        return torch.cat([z[:, :, 4:], part], 2) + y * y + (z + z)


class Turned(nn.Module):
    """A sum with a transposed view of itself, and a result that goes in place over a view."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        y = y + y.transpose(2, 3)
        y[:, :1].relu_()
        return torch.sigmoid(x) * y


def _drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with statistics that are not those of a fresh norm."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d) and module.running_mean is not None:
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
        if isinstance(module, nn.BatchNorm3d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.2, generator=generator)
    return network.eval()


def _noise(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _program(network: nn.Module, shape: tuple[int, ...] = SHAPE):
    return write_in_place(fold_norms(trace(network, shape)))


NETWORKS = {
    "batch norm": lambda: nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1)
    ),
    "no bias": lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ELU()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose3d(1, 4, 2, stride=2), nn.BatchNorm3d(4), nn.MaxPool3d(2)),
    "transposed in groups": lambda: nn.Sequential(
        nn.Conv3d(1, 4, 1), nn.ConvTranspose3d(4, 4, 2, stride=2, groups=2), nn.BatchNorm3d(4), nn.AvgPool3d(2)
    ),
    "norm before": lambda: nn.Sequential(nn.BatchNorm3d(1), nn.Conv3d(1, 4, 3, padding=1), nn.Sigmoid()),
    "no affine": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4, affine=False), nn.LeakyReLU(0.1)),
    "statistics of the batch": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4, track_running_stats=False)),
    "instance norm": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.InstanceNorm3d(4, affine=True), nn.PReLU()),
    "group norm": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.GroupNorm(2, 4), nn.SiLU()),
    "upsampled": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.MaxPool3d(2), nn.Upsample(scale_factor=2), nn.Tanh()),
    "dropout": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.Dropout(0.5), nn.ReLU6()),
    "norm used twice": TwiceNormed,
    "input needed again": Shared,
    "views of itself": Turned,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("is_channels_last", [False, True])
def test_gives_what_the_network_gives(name: str, is_channels_last: bool) -> None:
    torch.manual_seed(3)
    network = _drawn(NETWORKS[name]())
    network = network.to(memory_format=torch.channels_last_3d) if is_channels_last else network
    windows = _noise()
    with torch.inference_mode():
        expected, before = network(windows.clone()), windows.clone()
        found = _program(network)(windows)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(windows, before, rtol=0, atol=0)
        torch.testing.assert_close(_program(network)(windows), found, rtol=0, atol=0)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["unet", "res-unet", "attention-res-unet"]),
    norm=st.sampled_from(["batch", "instance", "group", "none"]),
    activation=st.sampled_from(["relu", "prelu", "elu", "leakyrelu"]),
    upsampling=st.sampled_from(["transposed", "nearest"]),
    size=st.integers(4, 7),
    seed=st.integers(0, 99),
)
def test_networks_of_ours_are_folded_whatever_their_options(
    name: str, norm: str, activation: str, upsampling: str, size: int, seed: int
) -> None:
    options = {"filters": 2, "depth": 1, "norm": norm, "activation": activation, "upsampling": upsampling}
    network = _drawn(build_network(name, 3, 1, 3, unet_options=options), seed)
    windows = _noise((2, 1, size, 4, 6), seed)
    with torch.inference_mode():
        torch.testing.assert_close(
            _program(network, (2, 1, size, 4, 6))(windows), network(windows), rtol=1e-4, atol=1e-5
        )


def test_a_batch_norm_that_alone_takes_a_convolution_is_gone() -> None:
    program = _program(_drawn(NETWORKS["batch norm"]()))
    calls = [operation.call for operation in program.operations]
    assert torch.ops.aten.native_batch_norm.default not in calls
    assert torch.ops.aten.relu_.default in calls


def test_norms_stay_where_the_convolution_is_needed_without_them() -> None:
    calls = [operation.call for operation in _program(_drawn(TwiceNormed())).operations]
    assert calls.count(torch.ops.aten.native_batch_norm.default) == 1


def test_the_network_itself_is_not_changed() -> None:
    network = _drawn(NETWORKS["batch norm"]())
    before = copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        optimise(network)(_noise())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert isinstance(network[1], nn.BatchNorm3d)


def test_weights_that_changed_since_are_taken() -> None:
    network = _drawn(NETWORKS["batch norm"]())
    quick = OptimisedNetwork(network)
    with torch.no_grad():
        quick(_noise())
        network.load_state_dict(_drawn(NETWORKS["batch norm"](), seed=7).state_dict())
        torch.testing.assert_close(quick(_noise()), network(_noise()), rtol=1e-5, atol=1e-5)
        network[0].weight = nn.Parameter(network[0].weight * 2)
        torch.testing.assert_close(quick(_noise()), network(_noise()), rtol=1e-5, atol=1e-5)
    assert all(quick._programs.values())


def test_every_size_of_batch_gets_its_own_pass() -> None:
    network = _drawn(NETWORKS["instance norm"]())
    quick = OptimisedNetwork(network)
    with torch.inference_mode():
        for shape in ((2, 1, 8, 8, 8), (1, 1, 8, 8, 8), (3, 1, 6, 8, 4)):
            torch.testing.assert_close(quick(_noise(shape)), network(_noise(shape)), rtol=1e-5, atol=1e-5)
    assert len(quick._programs) == 3
    assert all(quick._programs.values())


class Moody(nn.Module):
    """Depends on what the windows hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x * 3


class Noisy(nn.Module):
    """Gives something else each time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Several(nn.Module):
    """Gives a list, as deep supervision does."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x * 2]


class Counting(nn.Module):
    """Keeps a state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x + self.passes


@pytest.mark.parametrize("network", [Moody(), Several()])
def test_what_cannot_be_folded_is_run_as_it_is(network: nn.Module) -> None:
    network.eval()
    quick, windows = OptimisedNetwork(network), _noise()
    with torch.inference_mode():
        torch.testing.assert_close(quick(windows), network(windows), rtol=0, atol=0)
    assert [*quick._programs.values()] == [None]


def test_a_network_that_keeps_a_state_is_run_as_it_is() -> None:
    quick = OptimisedNetwork(Counting().eval())
    with torch.inference_mode():
        quick(_noise())
        before = quick.network.passes.clone()
        quick(_noise())
    assert not any(quick._programs.values())
    assert quick.network.passes > before


class Gated(nn.Module):
    """Views of weights go through an activation, and are added to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.gate = nn.Parameter(torch.linspace(-1, 1, 4))
        self.place = nn.Parameter(torch.linspace(-1, 1, 4 * 8**3))

    def forward(self, x: Tensor) -> Tensor:
        gated = self.conv(x) * torch.sigmoid(self.gate.view(1, -1, 1, 1, 1))
        return torch.relu(self.place.view(1, 4, 8, 8, 8)[..., : x.shape[-1]] + gated)


def test_weights_are_never_written_over() -> None:
    network = Gated().eval()
    quick, before = OptimisedNetwork(network), copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        for shape in ((1, 1, 8, 8, 8), (2, 1, 8, 8, 8)):
            expected = network(_noise(shape))
            for _ in range(3):
                torch.testing.assert_close(quick(_noise(shape)), expected, rtol=1e-5, atol=1e-5)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_passes_of_several_shapes_share_folded_weights() -> None:
    quick = OptimisedNetwork(_drawn(NETWORKS["batch norm"]()))
    with torch.inference_mode():
        for shape in ((1, 1, 8, 8, 8), (2, 1, 8, 8, 8)):
            quick(_noise(shape))
    first, second = (
        [each.data_ptr() for step in program.operations for each in step.arguments if isinstance(each, Tensor)]
        for program in quick._programs.values()
    )
    assert first == second


class Padding(nn.Module):
    """Makes tensors of its own, for some sizes."""

    def forward(self, x: Tensor) -> Tensor:
        missing = -x.shape[2] % 16
        padded = torch.cat([x, torch.zeros(*x.shape[:2], missing, *x.shape[3:], device=x.device)], 2) if missing else x
        return (padded * 2)[:, :, : x.shape[2]]


class Strict(nn.Module):
    """Takes one size alone."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == (8, 8, 8), "another size"
        return torch.relu(x * 2)


@pytest.mark.parametrize("network", [Padding(), Strict()])
def test_networks_that_look_at_the_size_are_run(network: nn.Module) -> None:
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(OptimisedNetwork(network)(_noise((1, 1, 8, 8, 8))), network(_noise((1, 1, 8, 8, 8))))


def test_a_network_that_is_watched_is_run_itself() -> None:
    network, seen = _drawn(NETWORKS["batch norm"]()), []
    quick = OptimisedNetwork(network)
    with torch.inference_mode():
        quick(_noise())
        network[0].register_forward_hook(lambda *_: seen.append(1))
        quick(_noise())
    assert seen == [1]


def test_what_differs_from_the_network_on_noise_is_not_trusted() -> None:
    quick = OptimisedNetwork(Noisy().eval())
    with torch.inference_mode():
        quick(_noise())
    assert [*quick._programs.values()] == [None]


def test_training_and_gradients_take_the_network_itself() -> None:
    network = _drawn(NETWORKS["batch norm"]())
    quick = OptimisedNetwork(network)
    quick(_noise()).sum().backward()
    assert network[0].weight.grad is not None
    network.train()
    with torch.no_grad():
        mean = network[1].running_mean.clone()
        quick(_noise())
    assert not torch.equal(mean, network[1].running_mean)
    assert not quick._programs


def test_mixed_precision_takes_the_network_itself() -> None:
    network = _drawn(NETWORKS["batch norm"]())
    quick = OptimisedNetwork(network)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert quick(_noise()).dtype == network(_noise()).dtype
    assert not quick._programs


def test_a_tracing_runtime_sees_the_network_itself() -> None:
    network = _drawn(NETWORKS["batch norm"]())
    with torch.no_grad():
        traced_network = torch.jit.trace(OptimisedNetwork(network), _noise())
        torch.testing.assert_close(traced_network(_noise(seed=2)), network(_noise(seed=2)), rtol=1e-5, atol=1e-5)
    assert "batch_norm" in str(traced_network.inlined_graph)


def test_a_pass_holds_no_more_than_its_operations_need() -> None:
    network = _drawn(build_network("res-unet", 3, 1, 2, unet_options={"filters": 8, "depth": 1}))
    # One window in one thread would take PyTorch's slow convolution, which has copies of its own.
    windows = _noise((2, 1, 32, 32, 32))
    program = _program(network, (2, 1, 32, 32, 32))
    _, plain = measure_allocation(lambda: network(windows))
    _, folded_bytes = measure_allocation(lambda: program(windows))
    assert folded_bytes < 0.85 * plain
