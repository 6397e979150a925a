import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.evaluation.figures.curves import epoch_curves, loss_histograms, network_curves
from medseg.evaluation.runs import Batch

NAN = math.nan


def epochs(count=12, **columns):
    """A log whose training loss and Dice are exact functions of the epoch; validated every other epoch."""
    rows = []
    for epoch in range(1, count + 1):
        row = {"epoch": epoch, "loss": 1 / epoch, "train_mean_dice": 1 - 1 / epoch, "learning_rate": 0.1}
        row["val_mean_dice"] = 0.9 - abs(epoch - 8) / 10 if epoch % 2 == 0 else NAN
        rows.append(row | {name: values[epoch - 1] for name, values in columns.items()})
    return rows


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_the_curves_are_the_log_and_gaps_are_left_out():
    rows = epochs()
    loss, dice = epoch_curves(rows).axes
    assert lines(loss)["train"] == [[row["epoch"], row["loss"]] for row in rows]
    assert "validation" not in lines(loss)
    assert lines(dice)["validation"] == [[row["epoch"], row["val_mean_dice"]] for row in rows[1::2]]


def test_a_whole_log_has_four_panels(tmp_path):
    head = "epoch,loss,val_loss,train_mean_dice,train_mean_iou,train_accuracy,val_mean_dice,val_mean_iou,val_accuracy"
    (tmp_path / "epochs.csv").write_text(
        f"{head},learning_rate,seconds\n1,.9,,.1,.1,.8,,,,.1,3\n2,.5,.6,.2,.1,.9,.3,.2,.95,.1,3\n"
    )
    figure = epoch_curves(tmp_path)
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == ["loss", "Dice", "IoU", "accuracy"]
    assert lines(figure.axes[3])["validation"] == [[2, 0.95]]


@pytest.mark.parametrize(("select_by", "best"), [(None, 8), ("val_mean_dice", 8), ("val_loss", 4), ("unknown", 8)])
def test_the_best_epoch_is_marked_in_every_panel(select_by, best):
    losses = [abs(epoch - 4) + 1.0 for epoch in range(1, 13)]
    figure = epoch_curves(epochs(val_loss=losses), select_by)
    for axes in figure.axes:
        assert lines(axes)["_best"] == [[best, 0], [best, 1]]
    assert f"best epoch {best} " in figure.get_suptitle()


def test_only_drops_of_the_learning_rate_are_marked():
    dropping = [0.1] * 5 + [0.02] * 7
    smooth = [0.1 * 0.7**epoch for epoch in range(12)]
    marked = epoch_curves(epochs(learning_rate=dropping)).axes[0]
    assert [line.get_xdata()[0] for line in marked.lines if line.get_label() == "_drop"] == [6]
    assert "_drop" not in lines(epoch_curves(epochs(learning_rate=smooth)).axes[0])


def test_losses_of_many_sizes_are_drawn_on_a_logarithmic_axis():
    near = epoch_curves(epochs()).axes[0]
    far = epoch_curves(epochs(loss=[10.0**-epoch for epoch in range(12)])).axes[0]
    negative = epoch_curves(epochs(loss=[5.0 - epoch for epoch in range(12)])).axes[0]
    assert [axes.get_yscale() for axes in (near, far, negative)] == ["linear", "log", "linear"]


def test_a_log_of_nothing_is_a_figure_without_panels():
    assert not epoch_curves([]).axes
    assert not epoch_curves([{"epoch": 1, "loss": NAN}]).axes


def test_no_text_lies_on_another():
    rows = epochs(val_loss=[0.5] * 12, train_accuracy=[0.9] * 12, train_mean_iou=[0.5] * 12)
    figure = epoch_curves(rows)
    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    boxes.append(figure._suptitle.get_window_extent())
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


@pytest.mark.parametrize("losses", [[0.9] * 12, [0.9, 0.8] * 6, [0.0] * 12])
def test_the_highest_loss_is_seen_whole_above_zero(losses):
    low, high = epoch_curves(epochs(loss=losses)).axes[0].get_ylim()
    assert low == 0
    assert high > 1.05 * max(losses)


def ticks(axes):
    """The numbers at the x axis that can be seen."""
    low, high = axes.get_xlim()
    return [value for value in axes.get_xticks() if low <= value <= high]


@pytest.mark.parametrize("count", [1, 2, 3, 12, 400])
def test_epochs_are_whole_numbers_at_the_axis(count):
    figures = epoch_curves(epochs(count)), network_curves({"one": epochs(count)}, "loss")
    for axes in (axes for figure in figures for axes in figure.axes):
        shown = ticks(axes)
        assert shown == [round(value) for value in shown]
        assert shown == [1] if count == 1 else len(shown) >= 2


def bars(axes):
    return [patch.get_height() for patch in axes.patches]


def test_every_batch_is_in_a_bar_of_its_part():
    rows = [Batch(1, "train", step, 0.01 * step) for step in range(1, 101)]
    rows += [Batch(1, "validation", step, 0.5) for step in range(1, 8)]
    train, validation = loss_histograms(rows).axes
    assert (sum(bars(train)), sum(bars(validation))) == (100, 7)
    assert sorted(bars(validation))[-2:] == [0, 7]
    assert train.get_xlim() == validation.get_xlim() == (0, 1)
    assert "n = 100" in train.get_title() and "n = 7" in validation.get_title()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_no_finite_loss_is_lost(losses):
    (axes,) = loss_histograms([Batch(1, "train", step, loss) for step, loss in enumerate(losses)]).axes
    assert sum(bars(axes)) == len(losses)


def test_losses_far_out_are_in_the_last_bar():
    rows = [Batch(1, "train", step, 1.0) for step in range(999)] + [Batch(1, "train", 999, 1000.0)]
    (axes,) = loss_histograms(rows).axes
    assert axes.get_xlim()[1] < 2
    assert bars(axes)[-1] == 1000
    assert "last bar" in axes.get_xlabel()


def test_losses_that_are_no_numbers_are_counted():
    (axes,) = loss_histograms(
        [Batch(1, "train", 1, 0.5), Batch(1, "train", 2, NAN), Batch(2, "train", 1, math.inf)]
    ).axes
    assert "n = 3, 2 not finite" in axes.get_title()
    assert sum(bars(axes)) == 1


def test_no_batches_give_an_empty_panel():
    (axes,) = loss_histograms([]).axes
    assert sum(bars(axes)) == 0


def test_each_network_has_a_line_in_its_own_colour():
    logs = {"U-Net": epochs(val_loss=np.linspace(1, 0.1, 12)), "Res-UNet": epochs(val_loss=[0.3] * 12), "old": epochs()}
    (axes,) = network_curves(logs).axes
    assert [line.get_label() for line in axes.lines] == ["U-Net", "Res-UNet"]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert [line.get_markevery() for line in axes.lines] == [[11], [0]]
    assert not network_curves({}).axes[0].lines
