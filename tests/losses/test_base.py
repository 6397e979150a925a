import math

import pytest
import torch
from monai.data import MetaTensor

from medseg.errors import UsageError
from medseg.losses.base import WeightedSum, log_probabilities, one_hot_truth, probabilities
from medseg.losses.entropy import BinaryCrossEntropy, CrossEntropy


def test_labels_become_one_channel_per_class():
    labels = torch.tensor([[[0, 2, 1]]])

    truth = one_hot_truth(torch.zeros(1, 3, 3), labels)

    assert truth.tolist() == [[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]


def test_labels_of_one_channel_stay_as_they_are():
    labels = torch.tensor([[[0, 1, 1]]], dtype=torch.uint8)

    truth = one_hot_truth(torch.zeros(1, 1, 3, dtype=torch.float64), labels)

    assert truth.tolist() == [[[0, 1, 1]]]
    assert truth.dtype == torch.float64


def test_labels_and_one_hot_give_the_same_loss():
    logits = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 1, 4, 5))
    one_hot = torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1)

    assert torch.equal(CrossEntropy()(logits, labels), CrossEntropy()(logits, one_hot))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float32, torch.float64])
def test_labels_may_come_in_any_type_that_holds_them(dtype):
    logits = torch.zeros(1, 2, 4)

    assert CrossEntropy()(logits, torch.tensor([[[0, 1, 1, 0]]]).to(dtype)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        ((2, 3, 4, 4), (2, 4, 4)),
        ((2, 3, 4, 4), (2, 2, 4, 4)),
        ((2, 3, 4, 4), (1, 1, 4, 4)),
        ((2, 3, 4, 4), (2, 1, 4, 5)),
        ((2, 1, 4, 4), (2, 3, 4, 4)),
        ((2, 3), (2, 1)),
        ((0, 1, 4, 4), (0, 1, 4, 4)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused_with_both_shapes(logits, target):
    with pytest.raises(UsageError) as raised:
        CrossEntropy()(torch.zeros(logits), torch.zeros(target))

    assert raised.value.code == "LOSS_SHAPE"
    assert str(logits) in raised.value.problem and str(target) in raised.value.problem


@pytest.mark.parametrize(
    ("classes", "labels"), [(1, [0, 2]), (3, [0, 3]), (3, [-1, 0]), (2, [0.5, 1]), (2, [math.nan, 1])]
)
def test_labels_other_than_the_classes_are_refused(classes, labels):
    with pytest.raises(UsageError) as raised:
        CrossEntropy()(torch.zeros(1, classes, 2), torch.tensor([[labels]]))

    assert raised.value.code == "LOSS_LABEL"


@pytest.mark.parametrize("one_hot", [[[1, 1], [0, 1]], [[0, 1], [0, 0]], [[2, 1], [-1, 0]]])
def test_channels_that_are_not_one_class_per_voxel_are_refused(one_hot):
    with pytest.raises(UsageError) as raised:
        CrossEntropy()(torch.zeros(1, 2, 2), torch.tensor([one_hot]))

    assert raised.value.code == "LOSS_LABEL"


def test_one_channel_is_a_sigmoid_and_several_are_a_softmax():
    assert probabilities(torch.zeros(1, 1, 1)).item() == 0.5
    assert probabilities(torch.zeros(1, 4, 1)).flatten().tolist() == [0.25] * 4


def test_one_channel_has_the_log_probabilities_of_two_classes():
    z = torch.randn(1, 1, 5)

    torch.testing.assert_close(log_probabilities(z), log_probabilities(torch.cat([torch.zeros_like(z), z], dim=1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_measured_in_float32(dtype):
    logits, labels = torch.randn(1, 1, 300, 300).to(dtype), torch.ones(1, 1, 300, 300)

    loss = BinaryCrossEntropy()(logits, labels)

    assert loss.dtype == torch.float32
    assert torch.equal(loss, BinaryCrossEntropy()(logits.float(), labels))


def test_a_weighted_sum_adds_its_terms():
    logits, labels = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    both = WeightedSum((2, 3), (BinaryCrossEntropy(), CrossEntropy()))

    assert both(logits, labels).item() == pytest.approx(5 * math.log(2))


def test_metadata_do_not_reach_the_loss_but_gradients_come_back():
    logits = torch.randn(1, 1, 4, requires_grad=True)

    loss = CrossEntropy()(MetaTensor(logits), MetaTensor(torch.ones(1, 1, 4)))
    loss.backward()

    assert type(loss) is torch.Tensor
    assert logits.grad.any()
