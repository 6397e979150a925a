import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from medseg.errors import UsageError
from medseg.losses.distance import border_weight_map
from medseg.losses.entropy import BinaryCrossEntropy, BinaryFocal, BorderWeightedCrossEntropy, CrossEntropy, Focal


def logit(p):
    return math.log(p / (1 - p))


def logits_of(probabilities):
    """Logits (1, C, voxels) whose softmax is the given (C, voxels)."""
    return torch.tensor(probabilities).log().unsqueeze(0)


def test_binary_cross_entropy_by_hand():
    logits = torch.tensor([[[logit(0.8), logit(0.4)]]])

    loss = BinaryCrossEntropy()(logits, torch.tensor([[[1, 0]]]))

    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


@pytest.mark.parametrize("classes", [1, 3])
def test_binary_cross_entropy_is_torchs_on_each_channel(classes):
    logits = torch.randn(2, classes, 4, 5)
    labels = torch.randint(0, max(classes, 2), (2, 1, 4, 5))
    truth = labels.float() if classes == 1 else functional.one_hot(labels[:, 0], classes).movedim(-1, 1).float()

    expected = functional.binary_cross_entropy_with_logits(logits, truth)

    torch.testing.assert_close(BinaryCrossEntropy()(logits, labels), expected)


def test_a_positive_weight_over_a_half_punishes_what_is_missed():
    missed = torch.tensor([[[-2.0]]]), torch.tensor([[[1]]])
    extra = torch.tensor([[[2.0]]]), torch.tensor([[[0]]])
    loss = BinaryCrossEntropy(positive_weight=0.75)

    assert loss(*missed).item() == pytest.approx(3 * loss(*extra).item())


def test_cross_entropy_by_hand():
    logits = logits_of([[0.7, 0.1], [0.2, 0.3], [0.1, 0.6]])

    loss = CrossEntropy()(logits, torch.tensor([[[0, 1]]]))

    assert loss.item() == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)


def test_cross_entropy_is_torchs():
    logits, labels = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 1, 3, 5))

    torch.testing.assert_close(CrossEntropy()(logits, labels), functional.cross_entropy(logits, labels[:, 0]))


def test_cross_entropy_of_one_channel_is_the_binary_one():
    logits, labels = torch.randn(2, 1, 3, 5), torch.randint(0, 2, (2, 1, 3, 5))

    torch.testing.assert_close(CrossEntropy()(logits, labels), BinaryCrossEntropy()(logits, labels))


def test_binary_focal_by_hand():
    logits = torch.tensor([[[logit(0.8), logit(0.4)]]])

    loss = BinaryFocal(gamma=2)(logits, torch.tensor([[[1, 0]]]))

    assert loss.item() == pytest.approx(-(0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6)) / 2)


@pytest.mark.parametrize("classes", [1, 3])
def test_binary_focal_without_focus_is_binary_cross_entropy(classes):
    logits, labels = torch.randn(2, classes, 3, 5), torch.randint(0, 2, (2, 1, 3, 5))

    torch.testing.assert_close(BinaryFocal(gamma=0)(logits, labels), BinaryCrossEntropy()(logits, labels))


def test_focal_by_hand_with_one_weight_per_class():
    logits = logits_of([[0.7, 0.1], [0.2, 0.3], [0.1, 0.6]])

    loss = Focal(gamma=2, alpha=[1.0, 0.5, 0.25])(logits, torch.tensor([[[0, 1]]]))

    assert loss.item() == pytest.approx(-(0.3**2 * math.log(0.7) + 0.5 * 0.7**2 * math.log(0.3)) / 2)


def test_focal_without_focus_is_cross_entropy():
    logits, labels = torch.randn(2, 3, 3, 5), torch.randint(0, 3, (2, 1, 3, 5))

    torch.testing.assert_close(Focal(gamma=0)(logits, labels), CrossEntropy()(logits, labels))


def test_focal_of_one_channel_is_the_binary_one():
    logits, labels = torch.randn(2, 1, 3, 5), torch.randint(0, 2, (2, 1, 3, 5))

    torch.testing.assert_close(Focal(alpha=0.25)(logits, labels), 0.25 * BinaryFocal()(logits, labels))


def test_focal_needs_as_many_weights_as_classes():
    with pytest.raises(UsageError, match="2 numbers for 3 classes"):
        Focal(alpha=(1, 2))(torch.zeros(1, 3, 2), torch.zeros(1, 1, 2))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_a_focal_gradient_is_finite_even_where_the_prediction_is_certain(gamma):
    logits = torch.tensor([[[200.0, -200.0, 0.0]]], requires_grad=True)

    BinaryFocal(gamma)(logits, torch.tensor([[[1, 1, 1]]])).backward()

    assert logits.grad.isfinite().all()


def test_border_weighted_cross_entropy_weighs_each_voxel_by_the_map_of_its_image():
    labels = torch.zeros(2, 1, 12, 9, dtype=torch.int64)
    labels[0, 0, 2:5, 2:6] = 1
    labels[0, 0, 7:10, 2:6] = 1
    labels[1, 0, 3:6, 3:6] = 1
    logits = torch.randn(2, 2, 12, 9)

    maps = np.stack([border_weight_map(label.numpy(), 10, 5) for label in labels[:, 0]])
    expected = (torch.from_numpy(maps) * functional.cross_entropy(logits, labels[:, 0], reduction="none")).mean()

    torch.testing.assert_close(BorderWeightedCrossEntropy()(logits, labels), expected)


def test_border_weighted_cross_entropy_reads_one_channel_as_foreground():
    labels = torch.zeros(1, 1, 8, 8)
    labels[..., 2:4, 2:4] = 1
    z = torch.randn(1, 1, 8, 8)
    loss = BorderWeightedCrossEntropy()

    torch.testing.assert_close(loss(z, labels), loss(torch.cat([torch.zeros_like(z), z], dim=1), labels))
