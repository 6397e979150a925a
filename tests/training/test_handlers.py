import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted, Compose

from medseg.errors import GridError
from medseg.losses import build_loss
from medseg.training.handlers import ValidationLoss, VoxelAccuracy, mean_over_ranks


def accuracy(batches, kind=torch.as_tensor):
    """As MONAI's engines call it: batches of decollated outputs."""
    engine = Engine(lambda engine, batch: [{"pred": kind(p), "label": kind(label)} for p, label in batch])
    VoxelAccuracy(output_transform=from_engine(["pred", "label"])).attach(engine, "accuracy")
    return engine.run(batches).metrics["accuracy"]


@pytest.mark.parametrize("kind", [torch.as_tensor, MetaTensor])
def test_accuracy_pools_all_voxels(kind):
    first = (torch.tensor([[1, 0, 1, 1.0]]), torch.tensor([[1, 0, 0, 0.0]]))  # 2 of 4
    second = (torch.ones((1, 3, 2)), torch.ones((1, 3, 2)))  # 6 of 6
    assert accuracy([[first], [second]], kind) == 0.8
    assert accuracy([[first, second]], kind) == 0.8


@pytest.mark.parametrize("classes", [2, 4])
def test_accuracy_of_classes_is_the_share_of_equal_labels(classes):
    generator = np.random.default_rng(classes)
    predicted, label = generator.integers(0, classes, (2, 3, 1, 5, 6, 2))
    pairs = [
        tuple(one_hot(torch.as_tensor(x), classes, dim=0) for x in pair) for pair in zip(predicted, label, strict=True)
    ]
    assert accuracy([pairs[:2], pairs[2:]]) == pytest.approx((predicted == label).mean())


def test_accuracy_of_nothing_is_nan():
    metric = VoxelAccuracy()
    assert math.isnan(metric.compute())
    metric.update((torch.ones(2, 1, 2), torch.ones(2, 1, 2)))
    assert metric.compute() == 1.0
    metric.reset()
    assert math.isnan(metric.compute())


def test_a_label_of_another_form_than_its_prediction_is_refused():
    with pytest.raises(GridError, match="SHAPE_MISMATCH"):
        VoxelAccuracy().update(([torch.ones(3, 4)], [torch.ones(1, 4)]))


def test_the_validation_loss_is_that_of_the_raw_output():
    generator = torch.Generator().manual_seed(4)
    images = torch.randn((3, 2, 1, 4, 4), generator=generator)
    labels = (torch.rand((3, 2, 1, 4, 4), generator=generator) > 0.5).float()
    network = torch.nn.Conv2d(1, 1, 1)
    evaluator = SupervisedEvaluator(
        "cpu",
        [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)],
        network,
        postprocessing=Compose([AsDiscreted("pred", threshold=0.0)]),
    )
    loss = build_loss("bce")
    ValidationLoss(loss).attach(evaluator)
    for _ in range(2):  # a second validation begins anew
        evaluator.run()
        expected = np.mean([loss(network(image), label).item() for image, label in zip(images, labels, strict=True)])
        assert evaluator.state.metrics["val_loss"] == pytest.approx(expected, abs=1e-6)
        torch.nn.init.constant_(network.weight, 0.3)


def test_the_mean_of_nothing_is_nan():
    assert math.isnan(mean_over_ranks([]))
    assert mean_over_ranks([1.0, 2.0]) == 1.5
