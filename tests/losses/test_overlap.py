import math

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from medseg.losses.overlap import Dice, Tversky, UnifiedFocal


def binary_logits(*probabilities):
    """Logits (1, 1, voxels) with these sigmoids."""
    return torch.tensor(probabilities).logit().view(1, 1, -1)


def labels(*values):
    return torch.tensor(values).view(1, 1, -1)


def test_dice_by_hand():
    loss = Dice()(binary_logits(0.9, 0.6, 0.2), labels(1, 1, 0))

    assert loss.item() == pytest.approx(1 - 2 * 1.5 / (1.7 + 2), abs=1e-5)


def test_dice_of_several_classes_is_monais_with_softmax():
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 1, 4, 5))
    oracle = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)

    torch.testing.assert_close(Dice(include_background=False)(logits, target), oracle(logits, target))


def test_dice_of_an_absent_and_unpredicted_foreground_is_zero():
    assert Dice()(torch.full((1, 1, 6), -50.0), torch.zeros(1, 1, 6)).item() == pytest.approx(0, abs=1e-6)


def test_dice_of_an_absent_but_predicted_foreground_is_one():
    assert Dice()(torch.full((1, 1, 6), 50.0), torch.zeros(1, 1, 6)).item() == pytest.approx(1, abs=1e-4)


def test_dice_over_a_batch_pools_its_images():
    logits = torch.cat([binary_logits(0.9, 0.6, 0.2), binary_logits(0.1, 0.1, 0.1)])
    target = torch.cat([labels(1, 1, 0), labels(0, 0, 0)])

    assert Dice(batch=True)(logits, target).item() == pytest.approx(1 - 2 * 1.5 / (2.0 + 2), abs=1e-5)
    assert Dice()(logits, target).item() == pytest.approx((1 - 3 / 3.7 + 1) / 2, abs=1e-4)


def test_one_channel_counts_even_where_the_background_does_not():
    logits, target = torch.randn(1, 1, 9), torch.ones(1, 1, 9)

    assert torch.equal(Dice(include_background=False)(logits, target), Dice()(logits, target))
    assert torch.equal(Tversky(include_background=False)(logits, target), Tversky()(logits, target))


def test_tversky_by_hand():
    loss = Tversky(alpha=0.3, beta=0.7)(binary_logits(0.9, 0.6, 0.2), labels(1, 1, 0))

    assert loss.item() == pytest.approx(1 - 1.5 / (1.5 + 0.3 * 0.2 + 0.7 * 0.5), abs=1e-5)


def test_even_tversky_is_dice():
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 1, 4, 5))

    torch.testing.assert_close(Tversky(0.5, 0.5)(logits, target), Dice()(logits, target), atol=1e-5, rtol=0)


def unified_by_hand(p, y, weight, delta, gamma, is_asymmetric):
    """Yeung et al. 2022 in NumPy for one image: p and y are (C, voxels), class 0 the common one."""
    focal, tversky = 0.0, 0.0
    for c in range(len(p)):
        rare = c > 0
        exponent = 0 if is_asymmetric and rare else gamma
        focal += np.mean(-(delta if rare else 1 - delta) * (1 - p[c]) ** exponent * y[c] * np.log(p[c]))
        hits, missed, extra = (p[c] * y[c]).sum(), ((1 - p[c]) * y[c]).sum(), (p[c] * (1 - y[c])).sum()
        index = hits / (hits + delta * missed + (1 - delta) * extra)
        tversky += (1 - index) ** (1 if is_asymmetric and not rare else 1 - gamma) / len(p)
    return weight * focal + (1 - weight) * tversky


@pytest.mark.parametrize("is_asymmetric", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_unified_focal_by_hand_for_any_number_of_classes(classes, gamma, is_asymmetric):
    logits = torch.randn(1, classes, 30, dtype=torch.float64)
    target = torch.arange(30).remainder(classes).view(1, 1, -1)
    p = logits.softmax(dim=1)[0].numpy()
    y = np.stack([target[0, 0].numpy() == c for c in range(classes)])

    loss = UnifiedFocal(0.3, 0.6, gamma, is_asymmetric)(logits, target)

    assert loss.item() == pytest.approx(unified_by_hand(p, y, 0.3, 0.6, gamma, is_asymmetric), abs=1e-9)


def test_unified_focal_of_one_channel_is_that_of_two_classes():
    z, target = torch.randn(2, 1, 30), torch.randint(0, 2, (2, 1, 30))
    two = torch.cat([torch.zeros_like(z), z], dim=1)

    torch.testing.assert_close(UnifiedFocal()(z, target), UnifiedFocal()(two, target))


def test_unified_focal_without_focus_at_even_weights_is_half_cross_entropy_and_dice():
    """γ = 0 and δ = 1/2: the article's special case."""
    logits, target = torch.randn(2, 3, 30), torch.randint(0, 3, (2, 1, 30))
    cross_entropy = torch.nn.functional.cross_entropy(logits, target[:, 0])

    for is_asymmetric in (True, False):
        loss = UnifiedFocal(0.5, 0.5, 0.0, is_asymmetric)(logits, target)
        torch.testing.assert_close(loss, 0.25 * cross_entropy + 0.5 * Dice()(logits, target), atol=1e-5, rtol=0)


def test_every_class_of_unified_focal_has_a_gradient():
    """MONAI's leaves all classes beyond the second out, without a word."""
    logits = torch.randn(1, 4, 40, requires_grad=True)

    UnifiedFocal()(logits, torch.arange(40).remainder(4).view(1, 1, -1)).backward()

    assert (logits.grad.abs().sum(dim=2) > 1e-4).all()


def test_unified_focal_of_a_perfect_prediction_is_nearly_zero():
    target = labels(0, 1, 1, 0)

    assert UnifiedFocal()(100.0 * (2 * target - 1), target).item() < 1e-3
    assert UnifiedFocal()(-100.0 * (2 * target - 1), target).item() > math.log(2)
