"""A traced pass gives what the network gives, holds nothing too long, and tells networks apart."""

import pytest
import torch
from torch import nn

from medseg.inference.runtimes.graph import copy_around, strip_values, trace
from medseg.networks import build_network

SHAPE = (1, 1, 16, 16, 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("attention-res-unet", 3, 1, 3, {"filters": 4, "depth": 2}).eval()


def test_the_operations_give_what_the_network_gives(network):
    program, windows = trace(network, SHAPE), torch.randn(SHAPE)
    with torch.inference_mode():
        assert torch.equal(program(windows), network(windows))
    assert program.layouts[0] == (SHAPE, torch.float32)
    assert program.layouts[program.result] == ((1, 3, 16, 16, 16), torch.float32)


def test_what_nothing_takes_is_not_computed():
    class Wasteful(nn.Module):
        def forward(self, windows):
            windows.exp().sum()
            return windows + 1

    program = trace(Wasteful().eval(), SHAPE)
    assert [each.call for each in program.operations] == [torch.ops.aten.add.Tensor]


def test_each_value_is_let_go_after_it_was_taken_for_the_last_time():
    seen = []

    class Chain(nn.Module):
        def forward(self, windows):
            return ((windows + 1) * 2 - 3).abs()

    program = trace(Chain().eval(), SHAPE)
    for freed in program._freed:
        seen += freed
    assert sorted(seen) == sorted(set(program.layouts) - {program.result})


def test_settings_that_change_no_shape_change_the_text():
    texts = {trace(nn.LeakyReLU(slope), SHAPE).text for slope in (0.1, 0.2)}
    assert len(texts) == 2
    assert trace(nn.LeakyReLU(0.1), SHAPE).text in texts


@pytest.mark.parametrize("size", [8, 16])
def test_a_pass_that_depends_on_values_or_gives_several_tensors_is_refused(size):
    class Peeking(nn.Module):
        def forward(self, windows):
            return windows if windows.sum() > 0 else -windows

    class Two(nn.Module):
        def forward(self, windows):
            return windows, windows + 1

    for network in (Peeking(), Two(), nn.Identity()):
        shape = (1, 1, size, size)
        if isinstance(network, nn.Identity):
            assert trace(network, shape).operations == ()
            continue
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            trace(network, shape)


def test_a_copy_around_other_tensors_leaves_the_network_as_it_is(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    skeleton = copy_around(network, strip_values)
    assert all(each.is_meta for each in skeleton.state_dict().values())
    assert {name: each.shape for name, each in skeleton.state_dict().items()} == {
        name: each.shape for name, each in before.items()
    }
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    same = copy_around(network, lambda tensor: tensor)
    assert same is not network
    assert all(each is other for each, other in zip(same.parameters(), network.parameters(), strict=True))
