import torch
from torch import nn

from medseg.training.weight_average import WeightAverage


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def moved(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value += torch.randn(value.shape, generator=generator)
    module(torch.randn((2, 1, 5, 5), generator=generator))  # moves the buffers


def test_the_average_is_the_moving_one_of_weights_and_buffers():
    module = network()
    average = WeightAverage(module, 0.3)
    expected = {key: value.double() for key, value in module.state_dict().items()}
    for step in range(1, 8):
        moved(module, step)
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value.double()
    for key, value in average.average.items():
        wanted = expected[key] if value.is_floating_point() else module.state_dict()[key].double()
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-6)
    assert average.average["1.num_batches_tracked"].item() == 7


def test_swapping_twice_changes_nothing():
    module = network()
    average = WeightAverage(module, 0.9)
    moved(module, 1)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    average.swap()
    assert not torch.equal(module[0].weight, before["0.weight"])
    average.swap()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_constant_network_is_its_own_average():
    module = network()
    average = WeightAverage(module, 0.99)
    for _ in range(5):
        average.update()
    for key, value in module.state_dict().items():
        torch.testing.assert_close(average.average[key], value)


def test_the_optimiser_s_steps_are_followed_and_the_state_can_be_taken_up():
    module = network()
    average = WeightAverage(module, 0.9)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    average.follow(optimizer)
    for step in range(3):
        module[0].weight.grad = torch.full_like(module[0].weight, float(step + 1))
        optimizer.step()
    assert average.steps == 3
    other = WeightAverage(network(), 0.9)
    other.load_state_dict(average.state_dict())
    assert other.steps == 3
    assert all(torch.equal(other.average[key], value) for key, value in average.average.items())
    assert not torch.equal(average.average["0.weight"], module[0].weight)
