import csv
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import LrScheduleHandler
from torch import nn

from medseg.errors import BundleError, OutputError, UsageError
from medseg.training.checkpoints import Checkpoints
from medseg.training.optimisation import build_schedule


class Killed(KeyboardInterrupt):
    pass


def run_of(
    tmp_path,
    metrics,
    losses=None,
    epochs=None,
    resume=False,
    val_interval=1,
    schedule=None,
    is_stepped=False,
    killed_in=None,
    **options,
):
    """A run over one number whose validation gives ``metrics`` and ``losses``, epoch by epoch."""
    torch.manual_seed(5)
    network = nn.Linear(1, 1)
    first_weight = network.weight.item()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    schedule = (schedule or (lambda optimizer: build_schedule("constant", optimizer, len(metrics))))(optimizer)

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(float(engine.state.epoch))
        optimizer.step()
        return {"loss": torch.tensor(float(engine.state.epoch))}

    def look(engine, batch):
        loss = torch.tensor((losses or metrics)[trainer.state.epoch - 1])
        engine.state.output = {"pred": loss, "label": torch.zeros(())}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)

    trainer, evaluator = Engine(step), Engine(look)
    for engine in (trainer, evaluator):
        engine.register_events(*IterationEvents)
    trainer.data_loader = SimpleNamespace(dataset=None)
    evaluator.state.key_metric_name = "val_mean_dice"
    places = (str(tmp_path / "models"), network, optimizer, schedule, trainer, evaluator, str(tmp_path / "logs"))
    checkpoints = Checkpoints(*places, loss=(lambda pred, label: pred) if losses else None, **options)
    checkpoints.first_weight = first_weight

    if is_stepped:
        LrScheduleHandler(schedule, print_lr=False).attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED(every=val_interval))
    def validate(engine):
        evaluator.run([0])

    @evaluator.on(Events.EPOCH_COMPLETED)
    def measure(engine):
        engine.state.metrics["val_mean_dice"] = metrics[trainer.state.epoch - 1]
        checkpoints.seen_weight = network.weight.item()
        if trainer.state.epoch == killed_in:
            raise Killed

    checkpoints.attach(seed=1, resume=resume)
    trainer.run([0, 1], max_epochs=epochs or len(metrics))
    return checkpoints


def halving(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)


def best_weight(tmp_path):
    return torch.load(tmp_path / "models" / "model.pt", weights_only=True)["weight"].item()


def log(tmp_path, column, name="epochs"):
    with (tmp_path / "logs" / f"{name}.csv").open(newline="") as file:
        return [row[column] for row in csv.DictReader(file)]


def test_the_best_epoch_s_weights_are_kept(tmp_path):
    checkpoints = run_of(tmp_path, [0.2, 0.9, 0.5])
    assert (checkpoints.best_metric, checkpoints.best_dice, checkpoints.best_epoch) == (0.9, 0.9, 2)
    assert best_weight(tmp_path) == 2.0


def test_the_weights_of_the_lowest_validation_loss_are_kept_where_that_selects(tmp_path):
    checkpoints = run_of(tmp_path, [0.2, 0.9, 0.5], losses=[0.5, 0.4, 0.3], select_by="val_loss")
    assert (checkpoints.best_metric, checkpoints.best_dice) == (pytest.approx(0.3), 0.5)
    assert best_weight(tmp_path) == 3.0


def test_nan_is_never_the_best(tmp_path):
    nan = float("nan")
    assert run_of(tmp_path / "dice", [nan, 0.1, nan]).best_epoch == 2
    assert run_of(tmp_path / "loss", [0.1] * 3, losses=[nan, 0.1, nan], select_by="val_loss").best_epoch == 2


def test_a_metric_that_is_not_measured_cannot_select(tmp_path):
    with pytest.raises(UsageError, match="SETTING_INVALID: select_by.*val_mean_dice"):
        run_of(tmp_path, [0.1], select_by="val_dice")


@pytest.mark.parametrize(
    "options",
    [{"select_by": "val_loss"}, {"patience": 3}, {"schedule": lambda o: build_schedule("plateau", o, 1)}],
)
def test_what_goes_by_the_loss_needs_one(tmp_path, options):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        run_of(tmp_path, [0.1], **options)


def test_a_resumed_run_goes_on_and_remembers_the_best(tmp_path):
    run_of(tmp_path, [0.2, 0.9, 0.5, 0.6], epochs=3)
    checkpoints = run_of(tmp_path, [0.2, 0.9, 0.5, 0.6], resume=True)
    assert (checkpoints.best_metric, checkpoints.best_dice, checkpoints.best_epoch) == (0.9, 0.9, 2)
    assert checkpoints.trainer.state.epoch == 4
    assert best_weight(tmp_path) == 2.0
    assert log(tmp_path, "epoch") == ["1", "2", "3", "4"]


def test_the_log_has_the_mean_loss_of_each_epoch(tmp_path):
    run_of(tmp_path, [0.1, 0.2], losses=[0.25, 0.75])
    assert log(tmp_path, "loss") == ["1.0", "2.0"]
    assert log(tmp_path, "val_loss") == ["0.25", "0.75"]


def test_every_batch_s_loss_is_kept(tmp_path):
    run_of(tmp_path, [0.1, 0.2], losses=[0.25, 0.75], val_interval=2)
    rows = list(zip(*(log(tmp_path, name, "batches") for name in ("epoch", "part", "step", "loss")), strict=True))
    assert rows == [
        ("1", "train", "1", "1.0"),
        ("1", "train", "2", "1.0"),
        ("2", "train", "1", "2.0"),
        ("2", "train", "2", "2.0"),
        ("2", "validation", "1", "0.75"),
    ]


def test_nothing_unfinished_is_left(tmp_path):
    run_of(tmp_path, [0.1, 0.2])
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["checkpoint.pt", "model.pt"]


def test_resuming_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        run_of(tmp_path, [0.1], resume=True)


def test_a_damaged_checkpoint_is_told_with_a_code(tmp_path):
    run_of(tmp_path, [0.1])
    (tmp_path / "models" / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="WEIGHTS_UNREADABLE"):
        run_of(tmp_path, [0.1, 0.2], resume=True)


def test_a_run_started_anew_starts_its_log_anew(tmp_path):
    run_of(tmp_path, [0.1, 0.2])
    run_of(tmp_path, [0.3])
    assert log(tmp_path, "epoch") == ["1"]
    assert log(tmp_path, "epoch", "batches") == ["1", "1"]


def test_an_epoch_without_validation_has_no_validation_in_the_log(tmp_path):
    run_of(tmp_path, [0.1, 0.2, 0.3, 0.4], losses=[1.0] * 4, val_interval=2)
    assert log(tmp_path, "val_mean_dice") == ["", "0.2", "", "0.4"]
    assert log(tmp_path, "val_loss") == ["", "1.0", "", "1.0"]


def test_rows_of_epochs_behind_the_checkpoint_are_cut_off_when_the_run_goes_on(tmp_path):
    metrics = [0.1, 0.2, 0.3]
    run_of(tmp_path, metrics, epochs=2)
    with (tmp_path / "logs" / "epochs.csv").open("a") as file:
        file.write("3,9.0,,,,,9.0,,,1.0,0.1\n1")  # killed after the first and within the second
    with (tmp_path / "logs" / "batches.csv").open("a") as file:
        file.write("3,train,1,9.0\n3,tr")
    run_of(tmp_path, metrics, resume=True)
    assert log(tmp_path, "epoch") == ["1", "2", "3"]
    assert log(tmp_path, "val_mean_dice") == ["0.1", "0.2", "0.3"]
    assert log(tmp_path, "epoch", "batches") == ["1", "1", "2", "2", "3", "3"]


def test_a_log_that_cannot_be_written_is_told_with_a_code(tmp_path):
    (tmp_path / "logs" / "batches.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        run_of(tmp_path, [0.1])


def test_the_log_has_the_rate_that_each_epoch_was_trained_with(tmp_path):
    run_of(tmp_path, [0.1, 0.2, 0.3], schedule=halving)
    assert [float(rate) for rate in log(tmp_path, "learning_rate")] == [1.0, 0.5, 0.25]


def test_a_schedule_that_a_handler_steps_is_not_stepped_twice(tmp_path):
    run_of(tmp_path, [0.1, 0.2, 0.3], schedule=halving, is_stepped=True)
    assert [float(rate) for rate in log(tmp_path, "learning_rate")] == [1.0, 0.5, 0.25]


def test_a_resumed_run_follows_the_schedule_as_it_is_now(tmp_path):
    run_of(tmp_path, [0.1, 0.2], schedule=halving)

    def slower(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)

    run_of(tmp_path, [0.1, 0.2, 0.3, 0.4], resume=True, schedule=slower)
    assert [float(rate) for rate in log(tmp_path, "learning_rate")[2:]] == pytest.approx([0.81, 0.729])


def plateau(optimizer):
    return build_schedule("plateau", optimizer, 1)


def test_the_rate_falls_on_a_plateau_of_the_validation_loss_also_over_a_resume(tmp_path):
    losses = [1.0] + [0.99995] * 12  # less than 1e-4 lower
    run_of(tmp_path / "whole", losses, losses, schedule=plateau)
    rates = [float(rate) for rate in log(tmp_path / "whole", "learning_rate")]
    assert rates == pytest.approx([1.0] * 11 + [0.2] * 2)  # ten epochs without a lower loss
    run_of(tmp_path / "parts", losses, losses, schedule=plateau, epochs=6)
    run_of(tmp_path / "parts", losses, losses, schedule=plateau, resume=True)
    assert log(tmp_path / "parts", "learning_rate") == log(tmp_path / "whole", "learning_rate")


def test_a_run_ends_when_the_validation_loss_no_longer_falls(tmp_path):
    losses = [1.0, 0.5, 0.49995, 0.6, 0.4, 0.3]
    assert run_of(tmp_path / "more", losses, losses, patience=3).trainer.state.epoch == 6
    assert run_of(tmp_path / "less", losses, losses, patience=2).trainer.state.epoch == 4
    assert [float(loss) for loss in log(tmp_path / "less", "val_loss")] == pytest.approx(losses[:4], abs=1e-6)


def test_a_lower_loss_by_less_than_the_least_difference_is_no_reason_to_go_on(tmp_path):
    losses = [1.0, 0.95, 0.9, 0.85]
    assert run_of(tmp_path / "a", losses, losses, patience=1, min_delta=0.04).trainer.state.epoch == 4
    assert run_of(tmp_path / "b", losses, losses, patience=1, min_delta=0.06).trainer.state.epoch == 2


def test_a_loss_that_is_nan_counts_as_not_lower(tmp_path):
    losses = [1.0, float("nan"), float("nan"), 0.1]
    assert run_of(tmp_path, losses, losses, patience=2).trainer.state.epoch == 3


def test_patience_is_counted_over_a_resume(tmp_path):
    losses = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    run_of(tmp_path, losses, losses, patience=3, epochs=3)
    assert run_of(tmp_path, losses, losses, patience=3, resume=True).trainer.state.epoch == 4


def test_a_run_that_ended_early_does_nothing_more_when_resumed(tmp_path):
    losses = [1.0, 1.0, 1.0, 0.1]
    run_of(tmp_path, losses, losses, patience=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    checkpoints = run_of(tmp_path, losses, losses, patience=2, resume=True)
    assert (checkpoints.trainer.state.epoch, checkpoints.best_epoch) == (3, 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run_of(tmp_path, losses, losses, patience=5, resume=True).trainer.state.epoch == 4


def test_averaged_weights_are_validated_and_kept_and_the_training_goes_on_with_its_own(tmp_path):
    checkpoints = run_of(tmp_path, [0.1, 0.2], average_decay=0.5)
    average = checkpoints.first_weight
    for step, weight in enumerate([1.0, 1.0, 2.0, 2.0], 1):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert best_weight(tmp_path) == checkpoints.seen_weight == pytest.approx(average, abs=1e-6)
    assert checkpoints.network.weight.item() == 2.0


def test_the_log_and_the_best_are_those_of_a_run_that_was_never_killed(tmp_path):
    metrics = [0.1, 0.3, 0.2, 0.4, 0.1]
    whole = run_of(tmp_path / "whole", metrics, metrics, average_decay=0.9)
    with pytest.raises(Killed):
        run_of(tmp_path / "parts", metrics, metrics, average_decay=0.9, killed_in=3)
    parts = run_of(tmp_path / "parts", metrics, metrics, average_decay=0.9, resume=True)
    assert (parts.best_epoch, parts.best_metric) == (whole.best_epoch, whole.best_metric)
    assert log(tmp_path / "parts", "loss", "batches") == log(tmp_path / "whole", "loss", "batches")


def test_a_run_whose_settings_were_changed_by_hand_does_not_go_on(tmp_path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"learning_rate": 1.0, "epochs": 1, "patience": 0}))
    run_of(tmp_path, [0.1], config_file=str(file))
    file.write_text(json.dumps({"learning_rate": 1.0, "epochs": 2, "patience": 7}))
    run_of(tmp_path, [0.1, 0.2], config_file=str(file), resume=True)
    file.write_text(json.dumps({"learning_rate": 0.5, "epochs": 3, "patience": 0}))
    with pytest.raises(UsageError, match=r"RESUME_SETTING.*learning_rate"):
        run_of(tmp_path, [0.1, 0.2, 0.3], config_file=str(file), resume=True)
    assert log(tmp_path, "epoch") == ["1", "2"]


def test_a_run_whose_split_was_changed_does_not_go_on(tmp_path):
    file = tmp_path / "train.json"
    file.write_text("{}")
    (tmp_path / "split.json").write_text('{"train": ["a"], "validation": ["b"]}')
    run_of(tmp_path, [0.1], config_file=str(file))
    (tmp_path / "split.json").write_text('{"train": ["b"], "validation": ["a"]}')
    with pytest.raises(UsageError, match=r"RESUME_SETTING.*split\.json"):
        run_of(tmp_path, [0.1, 0.2], config_file=str(file), resume=True)


def test_tensorboard_that_is_not_installed_is_told_with_a_code(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="PACKAGE_MISSING"):
        run_of(tmp_path, [0.1], tensorboard=True)


def test_tensorboard_gets_each_epoch_s_numbers(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append(("from", purge_step))

        def add_scalar(self, name, value, epoch):
            written.append((name, value, epoch))

        def flush(self):
            pass

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    run_of(tmp_path, [0.25], tensorboard=True)
    run_of(tmp_path, [0.25, 0.75], tensorboard=True, resume=True)
    assert [row for row in written if row[0] in ("from", "val_mean_dice") or row == "closed"] == [
        ("from", 1),
        ("val_mean_dice", 0.25, 1),
        "closed",
        ("from", 2),
        ("val_mean_dice", 0.75, 2),
        "closed",
    ]
