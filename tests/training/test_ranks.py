"""Two processes on one CPU, as torchrun starts them."""

import csv
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanDice, ValidationHandler, from_engine
from monai.transforms import AsDiscreted

from medseg.losses import build_loss
from medseg.training.checkpoints import Checkpoints
from medseg.training.handlers import VoxelAccuracy
from medseg.training.optimisation import build_optimizer, build_schedule

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
folder = Path(sys.argv[1])
torch.manual_seed(2)
cases = [{"image": torch.rand(1, 8, 8) + n, "label": (torch.rand(1, 8, 8) > 0.3).float()} for n in range(7)]
network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 1))
wrapped = torch.nn.parallel.DistributedDataParallel(network)
optimizer = build_optimizer("sgd", wrapped, 0.01, clip_norm=1.0)
schedule = build_schedule("plateau", optimizer, 4)
loss = build_loss("bce")


def loader(part, is_even):
    data = Dataset(part)
    return DataLoader(data, sampler=DistributedSampler(data, even_divisible=is_even), batch_size=1)


evaluator = SupervisedEvaluator(
    "cpu",
    loader(cases[4:], False),  # three cases: two for one rank, one for the other
    wrapped,
    postprocessing=AsDiscreted("pred", threshold=0.0),
    key_val_metric={"val_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    additional_metrics={"val_accuracy": VoxelAccuracy(output_transform=from_engine(["pred", "label"]))},
)
trainer = SupervisedTrainer(
    "cpu", 4, loader(cases[:4], True), wrapped, optimizer, loss, train_handlers=[ValidationHandler(1, evaluator)]
)
checkpoints = Checkpoints(
    str(folder / f"models-{rank}"), wrapped, optimizer, schedule, trainer, evaluator, str(folder / f"logs-{rank}"),
    loss=loss, select_by="val_loss", patience=2, min_delta=100.0, average_decay=0.9,
)
checkpoints.attach(seed=1)
trainer.run()
network.load_state_dict(torch.load(folder / "models-0" / "model.pt"))
network.eval()
with torch.no_grad():
    logits = [network(case["image"][None]) for case in cases[4:]]
labels = [case["label"][None] for case in cases[4:]]
right = [((one > 0) == (label > 0)).float().mean() for one, label in zip(logits, labels)]
measured = {
    "val_loss": sum(float(loss(one, label)) for one, label in zip(logits, labels)) / 3,
    "val_accuracy": float(sum(right)) / 3,
    "epochs": trainer.state.epoch,
    "weights": {key: value.clone() for key, value in checkpoints.average.average.items() if "running" not in key},
}
torch.save(measured, folder / f"measured-{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the two processes left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "program.py").write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(folder / "program.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture
def measured(folder):
    return [torch.load(folder / f"measured-{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_the_first_rank_alone_writes(folder):
    assert sorted(path.name for path in folder.glob("*-*")) == ["logs-0", "measured-0.pt", "measured-1.pt", "models-0"]


def test_what_is_measured_is_that_of_all_ranks_and_of_the_kept_weights(folder, measured):
    with (folder / "logs-0" / "epochs.csv").open(newline="") as file:
        row = min(csv.DictReader(file), key=lambda row: float(row["val_loss"]))
    for name in ("val_loss", "val_accuracy"):
        assert float(row[name]) == pytest.approx(measured[0][name], abs=1e-5), name


def test_all_ranks_end_early_together_with_equal_weights(measured):
    assert [each["epochs"] for each in measured] == [3, 3]
    one, other = (each["weights"] for each in measured)
    assert all(torch.equal(one[key], other[key]) for key in one)
