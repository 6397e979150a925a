import math

import pytest
import torch
from monai.losses import DiceCELoss

from medseg.errors import UsageError
from medseg.losses import LOSSES, build_loss
from medseg.losses.base import SegmentationLoss
from medseg.losses.entropy import BinaryCrossEntropy, Focal
from medseg.losses.overlap import Dice


def ball(classes, sizes):
    """Labels (2, 1, …): class 0 outside, the others in slabs of the first axis."""
    labels = torch.zeros(2, 1, *sizes, dtype=torch.int64)
    for c in range(1, max(classes, 2)):
        labels[:, :, 2 * c - 1 : 2 * c + 1, 1:4] = c
    return labels


def logits_for(labels, classes, certainty):
    """Logits whose activation is the labels (certainty > 0) or as wrong as can be (< 0)."""
    if classes == 1:
        return certainty * (2.0 * labels - 1)
    return certainty * torch.zeros(2, classes, *labels.shape[2:]).scatter(1, labels, 1.0)


FAMILY = pytest.mark.parametrize("name", LOSSES)
CLASSES = pytest.mark.parametrize("classes", [1, 2, 3])
SIZES = pytest.mark.parametrize("sizes", [(7, 6), (7, 6, 5)], ids=["2d", "3d"])


@FAMILY
@CLASSES
@SIZES
def test_every_loss_is_one_finite_number_with_a_gradient(name, classes, sizes):
    logits = torch.randn(2, classes, *sizes, requires_grad=True)

    loss = build_loss(name)(logits, ball(classes, sizes))
    loss.backward()

    assert loss.shape == ()
    assert loss.isfinite()
    assert logits.grad.isfinite().all() and logits.grad.any()


@FAMILY
@CLASSES
@SIZES
def test_every_loss_prefers_the_truth_to_doubt_and_doubt_to_the_contrary(name, classes, sizes):
    labels = ball(classes, sizes)
    right, unsure, wrong = (build_loss(name)(logits_for(labels, classes, z), labels) for z in (12.0, 0.0, -12.0))

    assert right < unsure < wrong


@FAMILY
@CLASSES
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("extreme", [0.0, 1e4, -1e4])
def test_every_loss_is_finite_on_uniform_targets_and_extreme_logits(name, classes, label, extreme):
    labels = torch.full((2, 1, 5, 4), label if classes < 3 else 2 * label)
    logits = logits_for(labels, classes, extreme).requires_grad_()

    loss = build_loss(name)(logits, labels)
    loss.backward()

    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@FAMILY
@CLASSES
def test_every_gradient_is_the_slope(name, classes):
    torch.manual_seed(0)
    labels = ball(classes, (5, 4))
    logits = torch.randn(2, classes, 5, 4, dtype=torch.float64, requires_grad=True)
    loss = build_loss(name)

    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits)


@FAMILY
@pytest.mark.parametrize("classes", [1, 3])
def test_every_loss_is_the_same_under_autocast(name, classes):
    labels = ball(classes, (7, 6))
    logits = torch.randn(2, classes, 7, 6).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = build_loss(name)(logits, labels)

    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, build_loss(name)(logits.float(), labels))


@FAMILY
def test_every_loss_is_a_segmentation_loss_with_a_docstring(name):
    assert isinstance(build_loss(name), SegmentationLoss)
    assert LOSSES[name].__doc__


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"did you mean .*dice-focal") as raised:
        build_loss("dice_focal")

    assert raised.value.code == "NAME_UNKNOWN"


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="gamma") as raised:
        build_loss("focal", gama=1)

    assert raised.value.code == "SETTING_UNKNOWN"


def test_an_option_of_a_loss_that_has_none_is_refused():
    with pytest.raises(UsageError) as raised:
        build_loss("ce", gamma=1)

    assert raised.value.code == "SETTING_UNKNOWN"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("bce", "positive_weight", 1.5),
        ("bce-dice", "alpha", -0.1),
        ("bce-dice", "alpha", 2),
        ("binary-focal", "gamma", -1),
        ("combo", "beta", 3),
        ("dice", "smooth", 0),
        ("dice-boundary", "alpha", "half"),
        ("dice-ce", "dice_weight", -1),
        ("focal", "alpha", [0.5, -1]),
        ("focal", "gamma", math.nan),
        ("tversky", "beta", -1),
        ("unified-focal", "gamma", 1),
        ("weighted-ce", "sigma", 0),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(name, option, value):
    with pytest.raises(UsageError) as raised:
        build_loss(name, **{option: value})

    assert raised.value.code == "SETTING_INVALID"


def test_bce_dice_is_the_weighted_sum_of_its_parts():
    logits, labels = torch.randn(2, 1, 7, 6), ball(1, (7, 6))
    expected = 0.3 * BinaryCrossEntropy()(logits, labels) + 0.7 * Dice()(logits, labels)

    torch.testing.assert_close(build_loss("bce-dice", alpha=0.3)(logits, labels), expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_dice_ce_is_monais(classes):
    logits, labels = torch.randn(2, classes, 7, 6), ball(classes, (7, 6))
    oracle = DiceCELoss(sigmoid=classes == 1, softmax=classes > 1, to_onehot_y=classes > 1)

    torch.testing.assert_close(build_loss("dice-ce")(logits, labels), oracle(logits, labels.float()))


def test_dice_focal_is_the_weighted_sum_of_its_parts():
    logits, labels = torch.randn(2, 3, 7, 6), ball(3, (7, 6))
    expected = 2 * Dice()(logits, labels) + 3 * Focal(1.5)(logits, labels)

    loss = build_loss("dice-focal", dice_weight=2, focal_weight=3, gamma=1.5)

    torch.testing.assert_close(loss(logits, labels), expected)


def test_combo_by_hand():
    """p = 0.8 where y = 1 and p = 0.4 where y = 0, α = 0.3, β = 0.6."""
    logits = torch.tensor([[[0.8, 0.4]]]).logit()
    cross_entropy = -(0.6 * math.log(0.8) + 0.4 * math.log(0.6)) / 2
    dice = 2 * 0.8 / (1.2 + 1)

    loss = build_loss("combo", alpha=0.3, beta=0.6)(logits, torch.tensor([[[1, 0]]]))

    assert loss.item() == pytest.approx(0.3 * cross_entropy + 0.7 * (1 - dice), abs=1e-5)


def test_dice_boundary_is_the_weighted_sum_of_its_parts():
    logits, labels = torch.randn(2, 1, 7, 6), ball(1, (7, 6))
    dice, boundary = (build_loss(name)(logits, labels) for name in ("dice", "boundary"))

    torch.testing.assert_close(build_loss("dice-boundary", alpha=0.2)(logits, labels), 0.8 * dice + 0.2 * boundary)
