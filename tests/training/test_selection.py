import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.errors import UsageError
from medseg.training.checkpoints import Patience, Selection, WeightAverage

NUMBERS = st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=8)


def metrics(dice=0.5, loss=0.5):
    return {"val_mean_dice": dice, "val_loss": loss}


@given(NUMBERS)
def test_the_first_of_the_highest_is_kept_and_nan_never(values):
    selection = Selection("val_mean_dice")
    kept = [epoch for epoch, dice in enumerate(values, 1) if selection.is_best(metrics(dice), "val_mean_dice", epoch)]
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        assert (kept, selection.epoch) == ([], 0)
        return
    assert selection.metric == max(numbers)
    assert selection.epoch == values.index(max(numbers)) + 1 == kept[-1]


@given(NUMBERS)
def test_the_first_of_the_lowest_losses_is_kept_with_its_dice(values):
    selection = Selection("val_loss")
    for epoch, loss in enumerate(values, 1):
        selection.is_best(metrics(epoch / 10, loss), "val_mean_dice", epoch)
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        assert (selection.metric, selection.epoch) == (min(numbers), values.index(min(numbers)) + 1)
        assert selection.dice == selection.epoch / 10


def test_what_was_not_measured_cannot_select_and_says_what_was():
    with pytest.raises(UsageError, match="SETTING_INVALID: select_by.*val_iou") as refused:
        Selection("val_iou").is_best(metrics(), "val_mean_dice", 1)
    assert refused.value.remedy == "use val_loss, val_mean_dice"


def test_a_selection_goes_on_from_what_was_kept():
    first = Selection("val_loss")
    first.is_best(metrics(0.8, 0.2), "val_mean_dice", 3)
    second = Selection("val_loss")
    second.load_state_dict(first.state_dict())
    assert (second.metric, second.dice, second.epoch) == (0.2, 0.8, 3)
    assert not second.is_best(metrics(0.9, 0.3), "val_mean_dice", 4)
    older = Selection("val_mean_dice")
    older.load_state_dict({"best_metric": 0.7, "best_epoch": 2})
    assert older.dice == 0.7


def ending(losses, epochs, min_delta=0.0):
    """The epoch after which a run ends; None where it goes on."""
    patience = Patience(epochs, min_delta)
    for epoch, loss in enumerate(losses, 1):
        patience.note(loss, epoch)
        if patience.is_over(epoch):
            return epoch
    return None


@pytest.mark.parametrize(
    ("losses", "epochs", "min_delta", "end"),
    [
        ([1.0, 0.9, 0.8, 0.7], 2, 0.0, None),
        ([1.0, 1.0, 1.0], 2, 0.0, 3),
        ([1.0, 0.99, 0.98], 2, 0.05, 3),
        ([1.0, 1.0, 1.0, 1.0], 0, 0.0, None),
        ([math.nan, math.nan, math.nan], 1, 0.0, None),
        ([1.0, math.nan, math.nan], 2, 0.0, 3),
    ],
)
def test_a_run_ends_when_the_loss_has_not_fallen_for_so_many_epochs(losses, epochs, min_delta, end):
    assert ending(losses, epochs, min_delta) == end


def test_waiting_goes_on_from_what_was_kept_and_begins_anew_without_it():
    first = Patience(2, 0.0)
    first.note(0.5, 1)
    second = Patience(2, 0.0)
    second.load_state_dict({**first.state_dict(), "epoch": 2})
    assert not second.is_over(2)
    assert second.is_over(3)
    third = Patience(2, 0.0)
    third.load_state_dict({"epoch": 5})
    third.note(0.5, 6)
    assert not third.is_over(7)
    assert third.is_over(8)


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
