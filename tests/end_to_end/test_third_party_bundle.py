"""A bundle that somebody else wrote for MONAI: medseg predicts with it, or says why it will not."""

import copy
import json

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import create_workflow
from monai.networks.nets import UNet

import medseg
from medseg.errors import BundleError
from tests.conftest import ball, save_nifti

METADATA = {
    "version": "1.2.0",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": ["16*n"] * 3, "channel_def": {"0": "T2"}}},
        "outputs": {
            "pred": {
                "num_channels": 2,
                "spatial_shape": ["16*n"] * 3,
                "channel_def": {"0": "background", "1": "lesion"},
            }
        },
    },
}

NETWORK = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "instance",
}

INFERENCE = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "dataset_dir": "unknown",
    "output_dir": "$@bundle_root + '/eval'",
    "pixdim": [1.5, 1.5, 1.5],
    "window": [16, 16, 16],
    "device": "$torch.device('cpu')",
    "data": "$[{'image': name} for name in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))]",
    "network_def": {"_target_": "UNet", **NETWORK},
    "network": "$@network_def.to('cpu')",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@window", "sw_batch_size": 3, "overlap": 0.25},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "meta_key_postfix": "meta_dict",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "meta_keys": "pred_meta_dict",
                "output_dir": "@output_dir",
                "output_postfix": "seg",
                "output_dtype": "uint8",
                "separate_folder": False,
            },
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "cpu",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            }
        ],
    },
    "initialize": [],
    "run": ["$@evaluator.run()"],
}


@pytest.fixture
def config():
    return copy.deepcopy(INFERENCE)


@pytest.fixture
def scans(tmp_path):
    """Two anisotropic scans, one of them stored from front to back."""
    folder = tmp_path / "scans"
    for case, signs in enumerate(((1, 1, 1), (-1, -1, 1))):
        affine = np.diag([1.2 * signs[0], 0.9 * signs[1], 2.5, 1.0])
        affine[:3, 3] = (20, -35, 7)
        save_nifti(ball(case, (24, 30, 14))[0], folder / f"scan_{case}.nii.gz", affine)
    return folder


def write_third_party(config, folder, suffix=".json"):
    """That bundle on disk, in either of MONAI's two notations."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    text = json.dumps(config) if suffix == ".json" else yaml.safe_dump(config, sort_keys=False)
    (folder / "configs" / f"inference{suffix}").write_text(text)
    torch.manual_seed(7)
    torch.save(UNet(**NETWORK).state_dict(), folder / "models" / "model.pt")
    return folder


def masks_in(folder, ending=""):
    found = sorted(folder.glob("*.nii.gz"))
    return {path.name.removesuffix(f"{ending}.nii.gz"): np.asarray(nibabel.load(path).dataobj) for path in found}


def error_codes(predictions):
    return [record.error["code"] for record in predictions.failed]


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_its_masks_are_those_that_monai_makes_of_it(suffix, config, scans, tmp_path):
    bundle = write_third_party(config, tmp_path / "theirs", suffix)
    predictions = medseg.predict(bundle, scans, tmp_path / "medseg")
    places = {"bundle_root": str(bundle), "dataset_dir": str(scans), "output_dir": str(tmp_path / "monai")}
    workflow = create_workflow(
        config_file=str(bundle / "configs" / f"inference{suffix}"), workflow_type="infer", logging_file=False, **places
    )
    workflow.run()
    ours, theirs = masks_in(tmp_path / "medseg"), masks_in(tmp_path / "monai", "_seg")
    assert error_codes(predictions) == []
    assert set(ours) == set(theirs) == {"scan_0", "scan_1"}
    for name, mask in theirs.items():
        assert set(np.unique(mask)) == {0, 1}
        np.testing.assert_array_equal(ours[name], mask)


def test_its_names_of_structures_reach_the_record(config, scans, tmp_path):
    predictions = medseg.predict(write_third_party(config, tmp_path / "theirs"), scans, tmp_path / "masks")
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert record["labels"] == {"0": "background", "1": "lesion"}
    assert record["bundle"]["version"] == "1.2.0"
    assert all(set(one.volumes_ml) == {"lesion"} for one in predictions.records)


def test_it_writes_nothing_into_its_own_folder(config, scans, tmp_path):
    bundle = write_third_party(config, tmp_path / "theirs")
    before = sorted(bundle.rglob("*"))
    medseg.predict(bundle, scans, tmp_path / "masks")
    assert sorted(bundle.rglob("*")) == before


def test_its_expressions_run_only_where_that_is_allowed(config, scans, tmp_path):
    plain = write_third_party(config, tmp_path / "plain")
    config["inferer"]["overlap"] = "$1 / 4"
    config["pixdim"] = "$[1.5] * 3"
    bundle = write_third_party(config, tmp_path / "theirs")
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE") as refused:
        medseg.predict(bundle, scans, tmp_path / "masks")
    assert refused.value.exit_code == 4
    assert not list((tmp_path / "masks").glob("*.nii.gz"))
    medseg.predict(bundle, scans, tmp_path / "masks", allow={"BUNDLE_RUNS_CODE"})
    medseg.predict(plain, scans, tmp_path / "plain_masks")
    allowed, wanted = masks_in(tmp_path / "masks"), masks_in(tmp_path / "plain_masks")
    assert set(allowed) == {"scan_0", "scan_1"}
    assert all(np.array_equal(allowed[name], wanted[name]) for name in wanted)


def test_an_expression_does_not_run_before_it_is_refused(config, scans, tmp_path):
    config["inferer"]["overlap"] = f"$open({str(tmp_path / 'ran')!r}, 'w').close() or 0.25"
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE"):
        medseg.predict(write_third_party(config, tmp_path / "theirs"), scans, tmp_path / "masks")
    assert not (tmp_path / "ran").exists()


def test_masks_that_do_not_lie_on_the_scan_s_grid_are_an_error_of_each_case(config, scans, tmp_path):
    steps = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [step for step in steps if step["_target_"] != "Invertd"]
    predictions = medseg.predict(write_third_party(config, tmp_path / "theirs"), scans, tmp_path / "masks")
    assert error_codes(predictions) == ["OUTPUT_OFF_GRID", "OUTPUT_OFF_GRID"]
    assert predictions.exit_code == 1
    assert not list((tmp_path / "masks").glob("*.nii.gz"))
    assert all("Invertd" in record.error["remedy"] for record in predictions.failed)
