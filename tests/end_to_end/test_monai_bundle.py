"""A bundle of ours by MONAI's own command line, beside the same work done by medseg."""

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, create_workflow, load, verify_metadata

import medseg
from medseg.bundle.load import open_bundle
from medseg.errors import BundleError
from medseg.losses import build_loss
from tests.conftest import ROOT, ball, save_nifti

SCHEMA = ROOT / "tests" / "end_to_end" / "meta_schema_20240725.json"
"""A copy of the file that medseg.bundle.build.METADATA_SCHEMA names: MONAI's, Apache-2.0."""


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def epochs(bundle):
    return [int(row["epoch"]) for row in table(bundle / "logs" / "epochs.csv")]


def weights(bundle, name="model"):
    return torch.load(bundle / "models" / f"{name}.pt", weights_only=True)


def is_finite(state):
    return all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())


def run_torchscript(path, image):
    with torch.inference_mode():
        return torch.jit.load(path)(image)


def run_onnx(path, image):
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])


RUN_EXPORTED = {"ckpt_export": run_torchscript, "onnx_export": run_onnx}


def scan_affine(case):
    """A grid of 1.2 × 0.9 × 2 mm, turned by 0.3, and stored from right to left in every other case."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.2 * (-1) ** case, 0.9, 2.0])
    affine[:3, 3] = (-30, 12, 100 + case)
    return affine


@pytest.fixture
def scans(tmp_path):
    """Three turned scans of different sizes, one in a folder of its own."""
    folder = tmp_path / "scans"
    for case, name in enumerate(("a.v1", "b", "second/b")):
        save_nifti(ball(case, (20 + case, 18, 16))[0], folder / f"{name}.nii.gz", scan_affine(case))
    return folder


def test_training_needs_no_more_than_the_config_file_and_the_data(tiny_bundle, ball_data, monai_bundle, elsewhere):
    fresh = weights(tiny_bundle)
    monai_bundle("run", tiny_bundle, ["train"], dataset_dir=ball_data, epochs=2)
    trained = weights(tiny_bundle)
    assert any(not torch.equal(trained[key], fresh[key]) for key in fresh)
    assert is_finite(trained)
    assert weights(tiny_bundle, "checkpoint")["epoch"] == 2
    assert epochs(tiny_bundle) == [1, 2]
    assert list(elsewhere.iterdir()) == []


def test_inference_gives_the_masks_that_medseg_predict_gives(tiny_bundle, scans, monai_bundle, tmp_path):
    monai_bundle("run", tiny_bundle, ["inference"], dataset_dir=scans, output_dir=tmp_path / "monai")
    predictions = medseg.predict(tiny_bundle, scans, tmp_path / "medseg")
    images = sorted(path.relative_to(scans) for path in scans.rglob("*.nii.gz"))
    masks = sorted(path.relative_to(tmp_path / "monai") for path in (tmp_path / "monai").rglob("*.*"))
    assert masks == images
    assert len(predictions.records) == len(images)
    for name in images:
        image, mask, ours = (nibabel.load(place / name) for place in (scans, tmp_path / "monai", tmp_path / "medseg"))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(ours.dataobj))
        assert set(np.unique(mask.dataobj)) == {0, 1}


def test_evaluate_scores_the_test_part_as_medseg_does(tiny_bundle, ball_data, monai_bundle, tmp_path):
    monai_bundle("run", tiny_bundle, ["train", "evaluate"], dataset_dir=ball_data)
    medseg.predict(tiny_bundle, ball_data / "images", tmp_path / "masks")
    ours = medseg.evaluate(tmp_path / "masks", ball_data / "labels", progress=False)
    for monai_s, name in (("val_mean_dice", "dice"), ("val_mean_iou", "iou")):
        rows = table(tiny_bundle / "eval" / f"{monai_s}_raw.csv")
        scored = {row["filename"].rpartition("/")[2].removesuffix(".nii.gz"): float(row["mean"]) for row in rows}
        wanted = {row.case: row.scores[name] for row in ours.rows if row.value == 1 and row.case in scored}
        assert len(scored) == 2
        assert scored == pytest.approx(wanted, abs=1e-5)
        assert min(wanted.values()) > 0


@pytest.mark.slow
def test_two_processes_train_one_network_and_the_first_alone_writes(tiny_bundle, ball_data, monai_bundle, elsewhere):
    places = {"dataset_dir": ball_data, "epochs": 2, "fractions": [0.5, 0.375, 0.125]}
    # Four training cases make two a rank: fewer than a batch of three, which must not be dropped.
    monai_bundle("run", tiny_bundle, ["train", "multi_gpu_train"], ranks=2, batch_size=3, **places)
    assert epochs(tiny_bundle) == [1, 2]
    trained = weights(tiny_bundle)
    assert is_finite(trained)
    assert not any(key.startswith("module.") for key in trained)
    assert sorted(path.name for path in (tiny_bundle / "models").iterdir()) == ["checkpoint.pt", "model.pt"]
    assert list(elsewhere.iterdir()) == []
    assert open_bundle(tiny_bundle).network is not None


@pytest.mark.slow
def test_another_network_and_loss_are_one_word_each_and_a_run_goes_on(tiny_bundle, ball_data, monai_bundle):
    chosen = {"dataset_dir": ball_data, "network_name": "attention-res-unet", "loss_name": "dice-focal"}
    monai_bundle("run", tiny_bundle, ["train"], epochs=1, **chosen)
    first = weights(tiny_bundle, "checkpoint")
    monai_bundle("run", tiny_bundle, ["train"], epochs=2, resume=True, **chosen)
    second = weights(tiny_bundle, "checkpoint")
    assert epochs(tiny_bundle) == [1, 2]
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert second["best_metric"] >= first["best_metric"]
    with pytest.raises(BundleError, match="WEIGHTS_MISMATCH"):
        open_bundle(tiny_bundle)


def test_the_loss_is_the_one_named(tiny_bundle):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((1, 2, 4, 4, 4), generator=generator)
    target = torch.randint(0, 2, (1, 1, 4, 4, 4), generator=generator)
    losses = []
    for name in ("dice-ce", "dice-focal", "tversky"):
        config = str(tiny_bundle / "configs" / "train.json")
        workflow = ConfigWorkflow(config, workflow_type="train", logging_file=False, loss_name=name)
        loss = workflow.parser.get_parsed_content("loss")
        losses.append(float(loss(logits, target)))
        assert losses[-1] == pytest.approx(float(build_loss(name)(logits, target)))
    assert len(set(losses)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["ckpt_export", "onnx_export"])
def test_an_exported_program_is_the_network(verb, tiny_bundle, monai_bundle, tmp_path):
    exported, shape = tmp_path / "exported.ts", (1, 1, 16, 16, 16)
    options = {
        "filepath": exported,
        "ckpt_file": tiny_bundle / "models" / "model.pt",
        "meta_file": tiny_bundle / "configs" / "metadata.json",
        "input_shape": list(shape),
        "use_trace": True,
    }
    monai_bundle(verb, tiny_bundle, ["inference"], words=("network_def",), **options)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = open_bundle(tiny_bundle).network(image)
    torch.testing.assert_close(RUN_EXPORTED[verb](exported, image), ours, atol=1e-5, rtol=1e-4)


def test_monai_loads_the_network_with_its_weights(tiny_bundle):
    network = load(name=tiny_bundle.name, bundle_dir=tiny_bundle.parent, workflow_type="inference", device="cpu")
    saved = weights(tiny_bundle)
    assert set(network.state_dict()) == set(saved)
    assert all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())


def test_a_workflow_runs_in_a_program_of_one_s_own(tiny_bundle, scans, tmp_path):
    config = str(tiny_bundle / "configs" / "inference.json")
    places = {"bundle_root": str(tiny_bundle), "dataset_dir": str(scans), "output_dir": str(tmp_path / "masks")}
    create_workflow(config_file=config, workflow_type="infer", logging_file=False, **places).run()
    assert len(list((tmp_path / "masks").rglob("*.nii.gz"))) == 3


@pytest.mark.parametrize("name", ["hippocampus_mr_segmentation", "phantom_ct_segmentation"])
def test_metadata_keeps_to_monai_s_schema(name):
    metadata = ROOT / "bundles" / name / "configs" / "metadata.json"
    assert json.loads(metadata.read_text())["schema"].endswith(SCHEMA.name)
    verify_metadata(meta_file=str(metadata), filepath=str(SCHEMA))


def test_metadata_that_breaks_the_schema_is_noticed(tmp_path):
    metadata = json.loads((ROOT / "bundles" / "phantom_ct_segmentation" / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = "one"
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="'one' is not of type 'integer'"):
        verify_metadata(meta_file=str(broken), filepath=str(SCHEMA))
