"""A dry run says what predicting would take, and leaves no trace."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK

from medseg.cli import main
from medseg.data.read import read_extent
from medseg.errors import DatasetError
from medseg.inference.dry_run import dry_run, format_plans
from medseg.inference.predict import predict
from medseg.inference.runtimes import tuning
from medseg.inference.runtimes.tuning import Timing
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti
from tests.dicom_folders import save_all, slices

CPU = PredictOptions(device="cpu", backend="torch")


@pytest.fixture
def scans(tmp_path):
    """A good scan, one with half its header, and one that is no volume."""
    folder = tmp_path / "scans"
    save_nifti(ball(1)[0], folder / "good.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "good.nii.gz").read_bytes()[:60])
    save_nifti(ball(1)[0][:, :, 0], folder / "flat.nii.gz")
    return folder


def test_every_case_has_its_plan_or_its_error(tiny_bundle, scans):
    found = dry_run(tiny_bundle, scans, options=CPU)
    assert list(found.outcomes) == ["cut", "flat", "good"]
    assert found.outcomes["cut"].code == "IMAGE_TRUNCATED"
    assert found.outcomes["flat"].code == "IMAGE_NOT_3D"
    plan = found.outcomes["good"]
    assert plan.shapes.image == (20, 18, 16)
    assert len(plan.windows) == 4
    assert plan.seconds > 0
    assert found.exit_code == 1


def test_a_case_that_max_ram_does_not_hold_is_told(tiny_bundle, scans):
    found = dry_run(tiny_bundle, scans / "good.nii.gz", options=PredictOptions(device="cpu", max_ram=1000))
    assert [error.code for error in found.failed.values()] == ["MEMORY_BUDGET"]


def test_no_image_is_an_error(tiny_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        dry_run(tiny_bundle, tmp_path / "empty", options=CPU)


def test_the_lines_name_every_case_that_can_be_run_and_the_runtime(tiny_bundle, scans):
    text = "\n".join(format_plans(dry_run(tiny_bundle, scans, options=CPU)))
    assert "good" in text
    assert "20×18×16" in text
    assert "torch" in text


def test_the_command_writes_nothing_and_tells_failures_by_its_exit_code(tiny_bundle, scans, tmp_path, capsys):
    output = tmp_path / "masks"
    assert main(["predict", str(tiny_bundle), str(scans), str(output), "--dry-run", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert "IMAGE_TRUNCATED" in printed.err
    assert "good" in printed.out
    assert not output.exists()
    assert main(["predict", str(tiny_bundle), str(scans / "good.nii.gz"), str(output), "--dry-run"]) == 0


def test_a_dry_run_shows_the_choice_that_a_run_has_kept_and_makes_none(tiny_bundle, scans, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuning, "LEAST_BATCHES", 0)
    scan, auto = scans / "good.nii.gz", PredictOptions(device="cpu")
    before = dry_run(tiny_bundle, scan, options=auto)
    assert before.untimed == ("good",)
    assert before.outcomes["good"].choice is None
    assert not (tmp_path / "cache").exists()

    monkeypatch.setattr(tuning, "_time_choice", lambda trial, plan, choice: Timing(1 / choice.batch, 0.0))
    predict(tiny_bundle, scan, tmp_path / "masks", options=auto)
    after = dry_run(tiny_bundle, scan, options=auto)
    assert after.untimed == ()
    assert after.outcomes["good"].batch == after.outcomes["good"].choice.batch == 4
    assert "4 window(s) at a time" in "\n".join(format_plans(after))
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert record["cases"][0]["run_by"]["windows_at_a_time"] == 4
    assert record["cases"][0]["run_by"]["chosen_by"] == "timing"


def test_a_dry_run_keeps_no_converted_network(tiny_bundle, scans, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = dry_run(tiny_bundle, scans / "good.nii.gz", options=PredictOptions(device="cpu", backend="openvino"))
    assert found.outcomes["good"].backend == "openvino"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_header_tells_what_the_whole_image_would(tmp_path, name):
    image = SimpleITK.GetImageFromArray(np.zeros((5, 6, 7), np.int16))
    image.SetSpacing((0.5, 1.5, 2.5))
    image.SetOrigin((3, -4, 5))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    from medseg.data.read import read

    extent, volume = read_extent([str(tmp_path / name)]), read(tmp_path / name)
    assert extent.shape == volume.spatial_shape == (7, 6, 5)
    assert np.allclose(extent.affine, volume.affine, atol=1e-5)
    assert (extent.channels, extent.stored_bytes) == (1, 2)


def test_the_headers_of_a_dicom_series_tell_what_the_whole_series_would(tmp_path):
    from medseg.data.read import read

    folder = tmp_path / "series"
    save_all(slices(), folder)
    extent, volume = read_extent([str(folder)]), read(folder)
    assert extent.shape == volume.spatial_shape
    assert np.allclose(extent.affine, volume.affine)


def test_channels_of_several_files_are_added_up(tmp_path):
    paths = [str(save_nifti(ball(seed)[0], tmp_path / f"{seed}.nii.gz")) for seed in (1, 2)]
    assert read_extent(paths).channels == 2
