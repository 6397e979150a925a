from itertools import pairwise

import pytest
import torch
from torch import nn

from medseg.errors import UsageError
from medseg.training.optimisation import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule


def network_with_gradient(gradient):
    network = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    network.weight.grad = torch.tensor([gradient])
    return network


def rates(name, epochs, losses=None):
    optimizer = build_optimizer("sgd", nn.Linear(1, 1), 1.0)
    schedule = build_schedule(name, optimizer, epochs)
    seen = []
    for epoch in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(losses[epoch]) if losses else schedule.step()
    return seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_goes_down_the_gradient_and_keeps_a_state_that_can_be_taken_up(name):
    network = network_with_gradient([1.0, -1.0])
    optimizer = build_optimizer(name, network, 0.1, weight_decay=0.01)
    optimizer.step()
    assert network.weight[0, 0] < 0 < network.weight[0, 1]
    other = build_optimizer(name, network, 0.1, weight_decay=0.01)
    other.load_state_dict(optimizer.state_dict())
    assert str(other.state_dict()) == str(optimizer.state_dict())
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_sgd_has_its_momentum():
    network = network_with_gradient([1.0, 0.0])
    optimizer = build_optimizer("sgd", network, 1.0, momentum=0.5)
    optimizer.step()
    optimizer.step()
    assert network.weight[0, 0].item() == -2.5  # 1, then 1 + 0.5 · 1


@pytest.mark.parametrize(("gradient", "moved"), [([3.0, 4.0], [-0.6, -0.8]), ([0.3, 0.4], [-0.3, -0.4])])
def test_a_gradient_longer_than_the_norm_is_shortened_to_it(gradient, moved):
    network = network_with_gradient(gradient)
    build_optimizer("sgd", network, 1.0, momentum=0.0, clip_norm=1.0).step()
    assert network.weight[0].tolist() == pytest.approx(moved, abs=1e-5)


def test_an_unknown_optimiser_or_schedule_is_refused():
    with pytest.raises(UsageError, match=r"NAME_UNKNOWN.*adam"):
        build_optimizer("adamm", nn.Linear(1, 1), 0.1)
    with pytest.raises(UsageError, match=r"NAME_UNKNOWN.*poly"):
        build_schedule("polly", torch.optim.SGD(nn.Linear(1, 1).parameters()), 5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_raises_the_rate(name):
    seen = rates(name, 30, [1.0] * 30 if name == "plateau" else None)
    assert seen[0] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(seen))
    assert seen[-1] > 0


def test_the_schedules_of_the_epoch_have_their_formulas():
    assert rates("poly", 4) == pytest.approx([1.0, 0.75**0.9, 0.5**0.9, 0.25**0.9])
    assert rates("cosine", 4) == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert rates("constant", 4) == [1.0] * 4


def test_the_plateau_is_keras_s():
    """ReduceLROnPlateau(factor=0.2, patience=10, min_delta=1e-4): at the tenth epoch in a row that is not lower."""
    assert rates("plateau", 23, [1.0] * 23) == pytest.approx([1.0] * 11 + [0.2] * 10 + [0.04] * 2)
    assert rates("plateau", 13, [1.0] * 5 + [0.9] + [1.0] * 7) == [1.0] * 13


@pytest.mark.parametrize("name", ["poly", "cosine", "constant"])
def test_a_schedule_s_state_says_nothing_of_the_number_of_epochs(name):
    optimizer = build_optimizer("sgd", nn.Linear(1, 1), 1.0)
    short, long = (build_schedule(name, optimizer, epochs) for epochs in (2, 8))
    long.load_state_dict(short.state_dict())
    assert long.lr_lambdas[0](4) == build_schedule(name, optimizer, 8).lr_lambdas[0](4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_in_one_pass_are_those_of_the_plain_optimiser(name):
    torch.manual_seed(0)
    networks = [nn.Linear(7, 5), nn.Linear(7, 5)]
    networks[1].load_state_dict(networks[0].state_dict())
    plain = {"momentum": 0.99} if name == "sgd" else {}
    optimizers = [
        build_optimizer(name, networks[0], 0.05, weight_decay=0.01),
        OPTIMIZERS[name](networks[1].parameters(), lr=0.05, weight_decay=0.01, fused=False, **plain),
    ]
    assert optimizers[0].param_groups[0]["fused"]
    for _ in range(5):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(torch.linspace(-1, 1, 7)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight, rtol=1e-5, atol=1e-6)
