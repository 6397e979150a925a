"""Predicting loads what it needs: few modules of medseg, and of an exported bundle neither PyTorch nor MONAI."""

import json
import os
import subprocess
import sys

import pytest

from medseg.inference.predict import open_predictor
from tests.conftest import ball, save_nifti

MOST_MODULES = 70
PREDICT = """
import json, sys
import medseg
made = medseg.predict(*sys.argv[1:])
assert not made.failed, made.failed
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def scan(tmp_path):
    return save_nifti(ball(1)[0], tmp_path / "scan.nii.gz")


def modules_of_predicting(*words) -> set[str]:
    """All modules that a process has loaded when it has predicted."""
    command = [sys.executable, "-W", "ignore", "-c", PREDICT, *map(str, words)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_few_modules_are_loaded_to_predict_one_nifti(tiny_bundle, scan, tmp_path):
    loaded = modules_of_predicting(tiny_bundle, scan, tmp_path / "out")
    own = {name for name in loaded if name.partition(".")[0] == "medseg"}
    assert len(own) <= MOST_MODULES, sorted(own)
    of_dicom = {name for name in own if name.startswith("medseg.data.dicom.")}
    assert len(of_dicom) <= 1, sorted(of_dicom)  # What tells a DICOM file from others.
    assert not {"highdicom", "openvino", "onnxruntime"} & loaded  # pydicom is loaded by nibabel, and by MONAI.


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_exported_bundle_predicts_without_pytorch_and_monai(tiny_bundle, scan, tmp_path, to):
    from medseg.inference.export import export

    exported = export(tiny_bundle, tmp_path / "exported", to=to).folder
    loaded = modules_of_predicting(exported, scan, tmp_path / "out")
    assert not {"torch", "monai"} & loaded
    assert (tmp_path / "out" / "scan.nii.gz").is_file()


def test_a_window_is_few_steps_away_from_the_call(tiny_bundle, scan, tmp_path, monkeypatch):
    """From ``predict`` to the network: at most ten frames of medseg's own, in at most six files."""
    import medseg

    seen, runner = [], type(open_predictor(tiny_bundle).runtime.passes)
    run = runner.logits

    def watched(passes, windows):
        frame = sys._getframe()
        while frame := frame.f_back:
            if frame.f_globals.get("__name__", "").startswith("medseg."):
                seen.append(frame.f_code.co_filename)
        monkeypatch.setattr(runner, "logits", run)
        return run(passes, windows)

    monkeypatch.setattr(runner, "logits", watched)
    made = medseg.predict(tiny_bundle, scan, tmp_path / "out")
    assert not made.failed
    frames = len(seen) + 1  # The watched call stands for one.
    assert 4 <= frames <= 10
    assert len(set(seen)) <= 6
