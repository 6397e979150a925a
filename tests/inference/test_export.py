"""An exported bundle gives the bundle's masks, without PyTorch and MONAI."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

import medseg.options
from medseg.bundle.load import open_bundle
from medseg.cli import main
from medseg.data.cases import open_images
from medseg.errors import BundleError, ImageError, OutputError, UsageError
from medseg.inference import export as exporting
from medseg.inference.export import export
from medseg.inference.predict import open_predictor
from medseg.inference.runtimes import exported_network
from medseg.inference.steps import description
from medseg.options import PredictOptions
from tests.conftest import save_nifti
from tests.inference.conftest import KINDS

ALONE = """
import sys
from medseg.cli import main
code = main(["predict", *sys.argv[2:], "--quiet"])
heavy = set(sys.argv[1].split(",")) & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else code)
"""


def masks_of(folder):
    def read(path):
        return np.asarray(nibabel.load(path).dataobj) if path.suffix == ".gz" else np.asarray(Picture.open(path))

    return {path.name: read(path) for path in sorted(folder.iterdir()) if path.suffix in (".gz", ".png")}


def predicted_alone(exported, images, output, without="torch,monai", more=()):
    """Predict in a process that must not import the packages named."""
    words = [sys.executable, "-c", ALONE, without, str(exported), str(images), str(output), *more]
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return masks_of(output)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_masks_without_pytorch_are_those_of_the_bundle(kind, to, miniature, tmp_path):
    bundle, images = miniature(kind)
    made = export(bundle, tmp_path / "exported", to=to)
    assert made.equal > 0.9999
    found = predicted_alone(made.folder, images, tmp_path / "found")
    medseg.predict(bundle, images, tmp_path / "wanted", options=PredictOptions(device="cpu", backend="torch"))
    wanted = masks_of(tmp_path / "wanted")
    assert len(wanted) == 2
    assert set(found) == set(wanted)
    for name, mask in wanted.items():
        assert len(np.unique(mask)) > 1, "a mask of one label shows nothing"
        assert found[name].shape == mask.shape
        assert np.mean(found[name] == mask) >= 0.9999
    record = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert record["bundle"]["name"] == bundle.name
    assert record["bundle"]["weights_sha256"] == open_bundle(bundle).weights_sha256


def test_a_torchscript_export_needs_no_monai(miniature, tmp_path):
    bundle, images = miniature("volumes")
    export(bundle, tmp_path / "exported", to="torchscript")
    found = predicted_alone(
        tmp_path / "exported", images, tmp_path / "found", without="monai", more=("--allow", "BUNDLE_RUNS_CODE")
    )
    medseg.predict(bundle, images, tmp_path / "wanted", options=PredictOptions(device="cpu", backend="torch"))
    for name, mask in masks_of(tmp_path / "wanted").items():
        assert np.mean(found[name] == mask) >= 0.9999


@pytest.fixture
def exported(tiny_bundle, tmp_path):
    """A 3D bundle in ONNX."""
    return export(tiny_bundle, tmp_path / "exported", to="onnx").folder


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(5)
    return save_nifti(rng.normal(size=(21, 19, 23)).astype(np.float32), tmp_path / "scans" / "scan.nii.gz")


def test_overlap_and_probabilities_are_those_of_the_bundle(tiny_bundle, exported, scan):
    options = PredictOptions(device="cpu", overlap=0.1, probabilities=True)
    (case,) = open_images(scan)
    found = open_predictor(exported, options)(case)
    wanted = open_predictor(open_bundle(tiny_bundle), options)(case)
    assert np.mean(found.labels == wanted.labels) >= 0.9999
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
    np.testing.assert_array_equal(found.affine, wanted.affine)


@pytest.mark.parametrize("with_probabilities", [False, True])
def test_a_sheared_volume_gets_the_mask_of_the_bundle(miniature, tmp_path, with_probabilities):
    bundle, _ = miniature("volumes")
    folder = export(bundle, tmp_path / "exported", to="onnx").folder
    affine = np.diag([-1.3, -0.9, 2.2, 1.0])
    affine[1, 2] = 0.8
    grains = np.kron(np.random.default_rng(3).normal(100, 40, (6, 7, 5)), np.ones((4, 4, 4))).astype(np.float32)
    (case,) = open_images(save_nifti(grains, tmp_path / "tilted.nii.gz", affine))
    options = PredictOptions(device="cpu", backend="torch", probabilities=with_probabilities)
    wanted = open_predictor(open_bundle(bundle), options)(case)
    found = open_predictor(folder, PredictOptions(probabilities=with_probabilities))(case)
    assert len(np.unique(wanted.labels)) > 1
    assert found.labels.dtype == wanted.labels.dtype
    assert np.mean(found.labels == wanted.labels) >= 0.9999
    if with_probabilities:
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
    assert "SHEARED_GRID" in found.notes


def test_windows_are_told_as_they_are_run(exported, scan):
    told = []
    predictor = open_predictor(exported, PredictOptions(), lambda case, done: told.append((case, done)))
    (case,) = open_images(scan)
    predictor(case)
    assert {name for name, _ in told} == {"scan"}
    counts = [done for _, done in told]
    assert counts == sorted(set(counts))
    assert counts[-1] == 8


@pytest.mark.parametrize(
    "options",
    [
        {"tta": True},
        {"amp": True},
        {"device": "cuda"},
        {"backend": "openvino"},
        {"backend": "torch"},
        {"locator": "any"},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_what_an_exported_bundle_cannot_do_is_a_usage_error(exported, options):
    with pytest.raises(UsageError) as caught:
        open_predictor(exported, PredictOptions(**options))
    assert caught.value.code == "OPTION_NOT_OFFERED"


def test_its_own_backend_may_be_named(exported, scan):
    (case,) = open_images(scan)
    assert open_predictor(exported, PredictOptions(backend="onnx"))(case).labels.shape == (21, 19, 23)


def test_bad_images_are_refused_as_by_the_bundle(exported, tmp_path):
    whole = np.zeros((9, 8, 7), np.float32)
    broken = whole.copy()
    broken[0, 0, 0] = np.nan
    bad = {
        "NONFINITE_VOXELS": [save_nifti(broken, tmp_path / "nan.nii.gz")],
        "IMAGE_NOT_3D": [tmp_path / "flat.png"],
        "CHANNEL_COUNT": [save_nifti(whole, tmp_path / f"{number}.nii.gz") for number in range(2)],
    }
    Picture.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "flat.png")
    predictor = open_predictor(exported, PredictOptions())
    for code, files in bad.items():
        with pytest.raises(ImageError) as caught:
            predictor(medseg.data.cases.Case("bad", tuple(map(str, files)), None, "bad"))
        assert caught.value.code == code


def test_logits_that_are_no_numbers_are_refused(exported, scan, monkeypatch):
    predictor = open_predictor(exported, PredictOptions())
    monkeypatch.setattr(
        predictor.runtime, "run", lambda windows: np.full((len(windows), 2, 16, 16, 16), np.nan, np.float32)
    )
    (case,) = open_images(scan)
    with pytest.raises(ImageError) as caught:
        predictor(case)
    assert caught.value.code == "OUTPUT_NONFINITE"


def test_memory_is_held_against_the_budget(exported, scan):
    (case,) = open_images(scan)
    with pytest.raises(ImageError) as caught:
        open_predictor(exported, PredictOptions(max_ram=1000))(case)
    assert caught.value.code == "MEMORY_BUDGET"


def test_an_altered_folder_is_refused(exported):
    weights = exported / "network.onnx"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + b"x")
    with pytest.raises(BundleError) as caught:
        open_predictor(exported, PredictOptions())
    assert caught.value.code == "EXPORT_ALTERED"
    weights.unlink()
    with pytest.raises(BundleError) as caught:
        open_predictor(exported, PredictOptions())
    assert caught.value.code == "EXPORT_ALTERED"


def test_a_network_that_the_runtime_cannot_load_is_refused(exported):
    content = json.loads((exported / "exported.json").read_text())
    (exported / "network.onnx").write_bytes(b"no network")
    content["files"]["network.onnx"] = hashlib.sha256(b"no network").hexdigest()
    (exported / "exported.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        open_predictor(exported, PredictOptions())
    assert caught.value.code == "EXPORT_UNREADABLE"


def test_a_missing_runtime_is_named_with_what_to_install(exported, tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(exported_network.importlib.util, "find_spec", lambda name: None)
    for call in (
        lambda: open_predictor(exported, PredictOptions()),
        lambda: export(tiny_bundle, tmp_path / "e", to="onnx"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == "PACKAGE_MISSING"
        assert "medseg[onnx]" in caught.value.remedy


def test_an_unknown_target_and_a_folder_that_is_there_are_refused(tiny_bundle, tmp_path):
    with pytest.raises(UsageError) as caught:
        export(tiny_bundle, tmp_path / "out", to="coreml")
    assert caught.value.code == "NAME_UNKNOWN"
    with pytest.raises(OutputError) as written:
        export(tiny_bundle, tmp_path, to="onnx")
    assert written.value.code == "OUTPUT_EXISTS"


def test_a_bundle_with_a_step_that_is_not_known_is_refused_and_nothing_is_left(tiny_bundle, tmp_path):
    config = tiny_bundle / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["preprocessing"]["transforms"].insert(3, {"_target_": "GaussianSmoothd", "keys": "image", "sigma": 1.0})
    config.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_UNSUPPORTED"
    assert "GaussianSmoothd" in caught.value.case
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def changed(content, section, **options):
    content[section] = {**content[section], **options}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: changed(content, "inferer", _target_="SimpleInferer"),
        lambda content: changed(content, "inferer", roi_size=[16, 16, -1]),
        lambda content: content["postprocessing"]["transforms"].insert(3, {"_target_": "FillHolesd", "keys": "pred"}),
        lambda content: content["postprocessing"]["transforms"].pop(1),
    ],
    ids=["no windows", "windows of the image's size", "another step on labels", "no way back"],
)
def test_windows_and_postprocessing_that_are_not_known_are_refused(tiny_bundle, tmp_path, change):
    config = tiny_bundle / "configs" / "inference.json"
    content = json.loads(config.read_text())
    change(content)
    if content["inferer"]["_target_"] == "SimpleInferer":
        content["inferer"] = {"_target_": "SimpleInferer"}
    config.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_UNSUPPORTED"


def test_a_network_that_cannot_be_converted_is_said_so(tiny_bundle, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such operator")

    monkeypatch.setitem(exporting._WRITERS, "onnx", fail)
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_FAILED"


def test_the_command_exports_tells_and_says_what_to_do_next(tiny_bundle, scan, tmp_path, capsys):
    assert main(["bundle", "export", str(tiny_bundle), str(tmp_path / "out"), "--to", "torchscript"]) == 0
    told = capsys.readouterr()
    assert f"medseg predict {tmp_path / 'out'}" in told.out
    assert "phantom" in told.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["exported.json", "network.pt"]
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    words = ["predict", str(tmp_path / "elsewhere"), str(scan), str(tmp_path / "masks"), "--quiet"]
    assert main(words) == 4
    assert "BUNDLE_RUNS_CODE" in capsys.readouterr().err, "TorchScript is a program"
    assert main([*words, "--allow", "BUNDLE_RUNS_CODE"]) == 0
    assert (tmp_path / "masks" / "scan.nii.gz").is_file()
    assert main([*words, "--tta"]) == 2
    assert main([*words, "--dry-run"]) == 2


def test_the_command_offers_every_target():
    assert medseg.options.TARGETS == description.TARGETS
