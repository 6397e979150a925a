"""A folder in which a run stopped early may be used again, and nothing that was finished is lost."""

import json
import shutil

import pytest
import torch

import medseg
from medseg.errors import BundleError, OutputError
from medseg.options import TrainOptions
from medseg.training.log import TrainingLog, epochs_logged
from medseg.training.run_folder import read_notes

ONE = TrainOptions(epochs=1)


class Stop(KeyboardInterrupt):
    """As Ctrl-C would end a run."""


def weights(folder):
    return torch.load(folder / "models" / "model.pt", weights_only=True)


def stopped_after_validation(bundle, data, folder, monkeypatch):
    """A run that ended between its first validation and its first checkpoint."""

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(TrainingLog, "add", stop)
        medseg.train(bundle, data, folder, options=TrainOptions(epochs=1, loss="focal"))
    assert (folder / "models" / "model.pt").is_file()
    assert not (folder / "models" / "checkpoint.pt").exists()


@pytest.mark.parametrize("options", [ONE, TrainOptions(epochs=1, network="res-unet")], ids=["same", "other network"])
def test_a_run_that_finished_no_epoch_makes_room_for_another(tiny_bundle, ball_data, tmp_path, monkeypatch, options):
    stopped_after_validation(tiny_bundle, ball_data, tmp_path / "run", monkeypatch)
    again = medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    fresh = medseg.train(tiny_bundle, ball_data, tmp_path / "fresh", options=options)
    kept = weights(again.folder)
    assert kept.keys() == weights(fresh.folder).keys()
    assert all(torch.equal(kept[key], value) for key, value in weights(fresh.folder).items())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["overrides"] == options.overrides


def test_a_run_that_finished_no_epoch_goes_on_from_its_beginning(tiny_bundle, ball_data, tmp_path, monkeypatch):
    stopped_after_validation(tiny_bundle, ball_data, tmp_path / "run", monkeypatch)
    run = medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(resume=True))
    assert run.epochs == 1
    assert epochs_logged(tmp_path / "run" / "logs") == 1


def test_weights_without_checkpoint_or_log_are_never_overwritten(tiny_bundle, ball_data, tmp_path):
    """As in a trained bundle that was tidied up before it was passed on."""
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=ONE)
    (tmp_path / "run" / "models" / "checkpoint.pt").unlink()
    shutil.rmtree(tmp_path / "run" / "logs")
    before = (tmp_path / "run" / "models" / "model.pt").read_bytes()
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=ONE)
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(resume=True))
    assert (tmp_path / "run" / "models" / "model.pt").read_bytes() == before


def test_a_run_of_several_epochs_whose_checkpoint_is_gone_does_not_begin_again(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=2))
    (tmp_path / "run" / "models" / "checkpoint.pt").unlink()
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(resume=True))


def test_other_files_beside_the_weights_stay(tiny_bundle, ball_data, tmp_path):
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / "models" / "mine.onnx").write_bytes(b"mine")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=ONE)
    assert (tmp_path / "run" / "models" / "mine.onnx").read_bytes() == b"mine"


def test_the_epochs_of_a_log_are_counted(tmp_path):
    assert epochs_logged(tmp_path) is None
    log = TrainingLog(tmp_path)
    log.begin(0)
    assert epochs_logged(tmp_path) == 0
    log.add({"epoch": 1, **dict.fromkeys(log.tables["epochs.csv"][1:])}, [])
    assert epochs_logged(tmp_path) == 1


def test_a_folder_without_a_record_has_no_notes(tmp_path):
    assert read_notes(tmp_path) == ()
    (tmp_path / "run.json").write_text('{"notes": ["A: b"]}')
    assert read_notes(tmp_path) == ("A: b",)
