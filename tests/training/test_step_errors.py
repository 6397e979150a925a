import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Lambdad

from medseg.errors import BundleError, ImageError, UsageError
from medseg.losses import build_loss
from medseg.training.step_errors import StepNames


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
