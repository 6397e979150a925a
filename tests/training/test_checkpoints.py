import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medseg.errors import BundleError
from medseg.training.checkpoints import Checkpoints


def run_of(tmp_path, metrics, epochs=None, resume=False, val_interval=1, is_stepped=False, decay=0.5):
    """A run over one number whose validation gives ``metrics``, epoch by epoch."""
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: decay**epoch)

    def step(engine, batch):
        with torch.no_grad():
            network.weight.fill_(float(engine.state.epoch))
        optimizer.step()
        return {"loss": torch.tensor(float(engine.state.epoch))}

    trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
    trainer.data_loader = type("Loader", (), {"dataset": None})()
    evaluator.state.key_metric_name = "val_mean_dice"
    checkpoints = Checkpoints(
        str(tmp_path / "models"), network, optimizer, scheduler, trainer, evaluator, str(tmp_path / "logs")
    )

    if is_stepped:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())

    @trainer.on(Events.EPOCH_COMPLETED(every=val_interval))
    def validate(engine):
        evaluator.run([0])

    @evaluator.on(Events.EPOCH_COMPLETED)
    def measure(engine):
        engine.state.metrics["val_mean_dice"] = metrics[trainer.state.epoch - 1]

    checkpoints.attach(seed=1, resume=resume)
    trainer.run([0, 1], max_epochs=epochs or len(metrics))
    return checkpoints


def best_weight(tmp_path):
    return torch.load(tmp_path / "models" / "model.pt", weights_only=True)["weight"].item()


def test_the_best_epoch_s_weights_are_kept(tmp_path):
    checkpoints = run_of(tmp_path, [0.2, 0.9, 0.5])
    assert (checkpoints.best_metric, checkpoints.best_epoch) == (0.9, 2)
    assert best_weight(tmp_path) == 2.0


def test_nan_is_never_the_best(tmp_path):
    checkpoints = run_of(tmp_path, [float("nan"), 0.1, float("nan")])
    assert checkpoints.best_epoch == 2


def test_a_resumed_run_goes_on_and_remembers_the_best(tmp_path):
    run_of(tmp_path, [0.2, 0.9, 0.5, 0.6], epochs=3)
    checkpoints = run_of(tmp_path, [0.2, 0.9, 0.5, 0.6], resume=True)
    assert (checkpoints.best_metric, checkpoints.best_epoch) == (0.9, 2)
    assert checkpoints.trainer.state.epoch == 4
    assert best_weight(tmp_path) == 2.0
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


def test_the_log_has_the_mean_loss_of_each_epoch(tmp_path):
    run_of(tmp_path, [0.1, 0.2])
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["1.0", "2.0"]


def test_nothing_unfinished_is_left(tmp_path):
    run_of(tmp_path, [0.1, 0.2])
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["checkpoint.pt", "model.pt"]


def test_resuming_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        run_of(tmp_path, [0.1], resume=True)


def test_a_run_started_anew_starts_its_log_anew(tmp_path):
    run_of(tmp_path, [0.1, 0.2])
    run_of(tmp_path, [0.3])
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1"]


def test_an_epoch_without_validation_has_no_validation_in_the_log(tmp_path):
    run_of(tmp_path, [0.1, 0.2, 0.3, 0.4], val_interval=2)
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [row.split(",")[3] for row in rows[1:]] == ["", "0.2", "", "0.4"]


def test_the_log_has_the_rate_that_each_epoch_was_trained_with(tmp_path):
    run_of(tmp_path, [0.1, 0.2, 0.3], is_stepped=True)
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [float(row.split(",")[5]) for row in rows[1:]] == [1.0, 0.5, 0.25]


def test_a_resumed_run_follows_the_schedule_as_it_is_now(tmp_path):
    run_of(tmp_path, [0.1, 0.2], is_stepped=True)
    run_of(tmp_path, [0.1, 0.2, 0.3, 0.4], resume=True, is_stepped=True, decay=0.9)
    rows = (tmp_path / "logs" / "epochs.csv").read_text().splitlines()
    assert [float(row.split(",")[5]) for row in rows[3:]] == pytest.approx([0.81, 0.729])
