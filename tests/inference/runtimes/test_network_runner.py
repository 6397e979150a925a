"""A network is run on its device, mirrored and in the threads that were asked for, and says what ran it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medseg.bundle.load import open_bundle
from medseg.errors import ImageError, UsageError
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.runtimes.backends import Choice
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.options import PredictOptions

CPU = PredictOptions(device="cpu", backend="torch")


@pytest.fixture
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


def test_the_mean_over_all_mirrorings_is_given_and_each_batch_is_counted_once(bundle):
    counted, windows = [], torch.randn(2, len(bundle.channels), 16, 16, 16)
    runner = NetworkRunner(bundle, replace(CPU, tta=True), counted.append)
    assert len(runner.mirrorings) == 2 ** len(bundle.mirror_axes)
    with torch.inference_mode():
        found = runner(windows)
        mirrored = [bundle.network(windows.flip(axes)).flip(axes) for axes in runner.mirrorings]
    torch.testing.assert_close(found, torch.stack(mirrored).mean(0), atol=1e-4, rtol=1e-4)
    assert counted == [2]


def test_mirroring_is_refused_where_the_training_did_not_mirror(bundle):
    with pytest.raises(UsageError, match="OPTION_NOT_OFFERED"):
        NetworkRunner(replace(bundle, mirror_axes=()), replace(CPU, tta=True), lambda windows: None)


def test_a_network_that_gives_several_tensors_is_refused(bundle):
    class Two(nn.Module):
        def forward(self, windows):
            return [windows, windows]

    runner = NetworkRunner(replace(bundle, network=Two().eval()), CPU, lambda windows: None)
    with torch.inference_mode(), pytest.raises(ImageError, match="OUTPUT_NOT_ONE_TENSOR"):
        runner(torch.zeros(1, 1, 8, 8, 8))


def test_the_record_says_what_runs_the_windows_and_how_it_was_chosen(bundle):
    runner = NetworkRunner(bundle, replace(CPU, threads=3), lambda windows: None)
    runner.choose(SlidingWindow.of(bundle.inferer), torch.zeros(1, 20, 20, 20))
    batch = bundle.inferer.sw_batch_size
    expected = {"backend": "torch", "windows_at_a_time": batch, "threads": 3, "chosen_by": "rule"}
    assert runner.run_by == expected
    runner.use(Choice("torch", batch, 5))
    assert runner.run_by == {**expected, "threads": 5, "chosen_by": "timing"}
    runner.use(None)
    assert runner.run_by == expected


def test_threads_hold_while_the_network_runs_alone(bundle):
    before = torch.get_num_threads()
    runner = NetworkRunner(bundle, replace(CPU, threads=before + 1), lambda windows: None)
    with runner.precision():
        assert torch.get_num_threads() == before + 1
        assert not torch.is_autocast_enabled("cpu")
    assert torch.get_num_threads() == before
    with NetworkRunner(bundle, replace(CPU, amp=True), lambda windows: None).precision():
        assert torch.is_autocast_enabled("cpu")


def test_a_copy_for_trial_leaves_the_choice_of_its_original(bundle):
    runner = NetworkRunner(bundle, CPU, lambda windows: None)
    trial = runner.copy_for_trial()
    trial.use(Choice("torch", 1, 7))
    assert trial.network is runner.network
    assert runner.run_by["chosen_by"] == "rule"


def test_another_inferer_s_windows_are_run_by_pytorch_one_at_a_time(bundle):
    runner = NetworkRunner(bundle, PredictOptions(device="cpu", backend="onnx"), lambda windows: None)
    runner.choose(None, torch.zeros(1, 20, 20, 20))
    assert (runner.backend, runner.run_by["windows_at_a_time"], runner.note) == ("torch", 1, "")
