import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted, Compose, Lambdad

from medseg.errors import BundleError, GridError, ImageError, UsageError
from medseg.losses import build_loss
from medseg.training.handlers import StepNames, ValidationLoss, VoxelAccuracy, mean_over_ranks


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


def records(*values):
    return [
        {"image": torch.full((1, 2, 2), value), "label": torch.zeros(1, 2, 2), "case_id": f"case-{number}"}
        for number, value in enumerate(values)
    ]


def trainer_of(training, validation=(), loss=None, transform=None, network=None):
    """A trainer whose batches hold two cases each."""
    network = network or torch.nn.Conv2d(1, 1, 1)
    loaders = [DataLoader(Dataset(part, transform), batch_size=2) for part in (training, validation or training)]
    evaluator = SupervisedEvaluator("cpu", loaders[1], network)
    trainer = SupervisedTrainer(
        "cpu",
        2,
        loaders[0],
        network,
        torch.optim.SGD(network.parameters(), lr=0.1),
        loss or build_loss("bce"),
        train_handlers=[ValidationHandler(1, evaluator)] if validation else [],
    )
    StepNames(trainer, evaluator)
    return trainer


class Refusing(torch.nn.Conv2d):
    """A network that cannot take images above 1."""

    def __init__(self, error):
        super().__init__(1, 1, 1)
        self.error = error

    def forward(self, image):
        if image.max() > 1:
            raise self.error
        return super().forward(image)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoiled(value):
    trainer = trainer_of(records(0.0, 0.1, 0.2, value))
    with pytest.raises(BundleError, match=r"LOSS_NONFINITE.*epoch 1, step 2.*case-2, case-3"):
        trainer.run()
    assert all(torch.isfinite(weight).all() for weight in trainer.network.parameters())


def test_a_library_s_error_gets_the_step_and_its_cases():
    trainer = trainer_of(records(0.0, 0.0, 0.0, 5.0), network=Refusing(RuntimeError("too bright\nat all")))
    with pytest.raises(BundleError, match=r"TRAINING_FAILED: training, epoch 1, step 2 \(case-2, case-3\).*too bright"):
        trainer.run()


def test_a_failed_validation_names_its_cases_and_the_epoch():
    trainer = trainer_of(records(0.0, 0.0), records(0.0, 0.0, 5.0), network=Refusing(ValueError("too bright")))
    with pytest.raises(BundleError, match=r"TRAINING_FAILED: validation, epoch 1, step 2 \(case-2\)"):
        trainer.run()


def test_an_error_of_ours_keeps_its_code_and_class_and_gets_the_cases():
    labelled = [{**record, "label": torch.full((1, 2, 2), 3.0)} for record in records(0.0, 0.0)]
    with pytest.raises(UsageError, match="LOSS_LABEL: training, epoch 1, step 1 .*case-0, case-1"):
        trainer_of(labelled).run()


def test_an_error_that_names_its_case_is_left_as_it_is():
    error = ImageError("NONFINITE_VOXELS", "scans/case-1.nii.gz", "NaN", "replace it")
    with pytest.raises(ImageError) as caught:
        trainer_of(records(0.0, 5.0), network=Refusing(error)).run()
    assert caught.value.case == "scans/case-1.nii.gz"


def test_what_is_no_failure_of_a_step_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        trainer_of(records(0.0, 5.0), network=Refusing(KeyboardInterrupt())).run()

    def refuse(image):
        raise OSError("the disk is gone")

    with pytest.raises(RuntimeError, match="applying transform"):
        trainer_of(records(0.0, 0.0), transform=Lambdad("image", refuse)).run()


def test_batches_without_case_ids_are_named_by_their_step():
    nameless = [{key: record[key] for key in ("image", "label")} for record in records(0.0, float("nan"))]
    with pytest.raises(BundleError, match=r"LOSS_NONFINITE: training, epoch 1, step 1: "):
        trainer_of(nameless).run()
