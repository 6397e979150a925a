import math
from dataclasses import replace

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import DiceMetric, MeanIoU
from monai.transforms import AsDiscrete

from medseg.bundle.train_config import train_config
from medseg.errors import UsageError
from medseg.training.counting import COUNTS, CountedAccuracy, CountVoxels, MeanOverlap, classes_of, count_voxels

CLASSES = 4


def drawn(seed, images=3):
    """Logits and labels of a batch; the last image lacks a class, and the first has background only."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((images, CLASSES, 5, 6, 4), generator=generator)
    labels = torch.randint(0, CLASSES, (images, 1, 5, 6, 4), generator=generator).float()
    labels[0] = 0
    labels[-1][labels[-1] == 2] = 1
    return logits, labels


def scores(batches, num_classes=CLASSES):
    """As a trainer calls them."""
    count = CountVoxels(num_classes)
    engine = Engine(lambda engine, batch: count({"pred": batch[0], "label": batch[1]}))
    for name, metric in (("dice", MeanOverlap("dice")), ("iou", MeanOverlap("iou")), ("accuracy", CountedAccuracy())):
        metric.attach(engine, name)
    return engine.run(batches).metrics


@pytest.mark.parametrize("kind", [torch.as_tensor, MetaTensor])
def test_scores_are_those_of_monai_s_metrics_on_one_hot_copies(kind):
    batches = [drawn(seed) for seed in range(3)]
    dice, iou = DiceMetric(include_background=False), MeanIoU(include_background=False)
    choose, spread = AsDiscrete(argmax=True, to_onehot=CLASSES), AsDiscrete(to_onehot=CLASSES)
    right = []
    for logits, labels in batches:
        pair = [choose(image) for image in logits], [spread(label) for label in labels]
        dice(*pair)
        iou(*pair)
        right.append((logits.argmax(dim=1, keepdim=True) == labels).float().mean())
    found = scores([(kind(logits), kind(labels)) for logits, labels in batches])
    assert found["dice"] == pytest.approx(dice.aggregate().item(), abs=1e-6)
    assert found["iou"] == pytest.approx(iou.aggregate().item(), abs=1e-6)
    assert found["accuracy"] == pytest.approx(torch.stack(right).mean().item(), abs=1e-6)


def test_of_one_channel_the_foreground_counts_from_a_probability_of_a_half():
    logits = torch.tensor([[[-1.0, -0.1, 0.0, 0.3, 2.0]]])
    labels = torch.tensor([[[0.0, 0.0, 1.0, 0.0, 1.0]]])
    assert classes_of(logits).tolist() == (logits.sigmoid() >= 0.5).int().tolist()
    found = scores([(logits, labels)], num_classes=2)
    assert (found["dice"], found["iou"], found["accuracy"]) == pytest.approx((4 / 5, 2 / 3, 4 / 5))


def test_a_validation_of_one_channel_counts_from_the_same_probability_as_predicting(tiny_settings):
    config = train_config(replace(tiny_settings, activation="sigmoid"))
    (step,) = config["validate"]["postprocessing"]["transforms"]
    logits = torch.tensor([[[-1.0, -0.1, 0.0, 0.3, 0.6]]])
    assert torch.equal(AsDiscrete(threshold=step["threshold"])(logits[0]), (logits[0].sigmoid() >= 0.5).float())


def test_true_classes_are_down_and_predicted_ones_across():
    true, predicted = torch.tensor([[[0, 1, 1, 2]], [[2, 2, 2, 2]]]), torch.tensor([[[0, 1, 2, 2]], [[2, 2, 0, 2]]])
    assert count_voxels(true.float(), predicted, 3).tolist() == [
        [[1, 0, 0], [0, 1, 1], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0], [1, 0, 3]],
    ]


def test_many_classes_are_counted_too():
    labels = torch.arange(300).reshape(1, 1, 300)
    assert torch.equal(count_voxels(labels.float(), labels, 300)[0], torch.eye(300, dtype=torch.long))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_first_of_equal_classes_is_taken_in_any_layout(layout):
    logits = torch.randint(0, 2, (2, 7, 8, 8, 8)).float().to(memory_format=layout)
    assert torch.equal(classes_of(logits), logits.argmax(dim=1, keepdim=True))


def test_nothing_to_measure_is_what_monai_makes_of_it():
    assert MeanOverlap("dice").compute() == 0.0
    assert math.isnan(CountedAccuracy().compute())
    logits = torch.randn((1, CLASSES, 9))
    assert scores([(logits, torch.zeros(1, 1, 9))])["dice"] == 0.0


def test_no_logits_and_no_graph_stay_with_what_was_counted():
    logits = torch.randn((1, CLASSES, 9), requires_grad=True)
    data = CountVoxels(CLASSES)({"pred": logits, "label": torch.zeros(1, 1, 9), "loss": logits.sum(), "case_id": ["a"]})
    assert data["pred"].shape == (1, 1, 9)
    assert not data["pred"].requires_grad
    assert not data["loss"].requires_grad
    assert data[COUNTS].sum() == 9
    assert data["case_id"] == ["a"]


def test_a_measure_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        MeanOverlap("dise")


def test_labels_of_any_type_stay_as_they_are():
    for dtype in (torch.int32, torch.int64, torch.uint8, torch.float32):
        label = torch.ones((1, 1, 9), dtype=dtype)
        CountVoxels(CLASSES)({"pred": torch.randn((1, CLASSES, 9)), "label": label})
        assert torch.equal(label, torch.ones((1, 1, 9), dtype=dtype))
