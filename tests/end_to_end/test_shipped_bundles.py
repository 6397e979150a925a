"""The bundles that medseg ships: MONAI trains, scores and runs them; their weights are what their card says."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

import medseg
from medseg.bundle.load import open_bundle
from medseg.demonstration.phantom import make_phantom
from tests.conftest import ROOT, save_nifti

CASES = 6
BUNDLES = ["hippocampus_mr_segmentation", "phantom_ct_segmentation"]


def chest(case):
    """The middle of a synthetic CT, about one window large."""
    phantom = make_phantom(800_000 + case, shape=(36, 40, 32), spacing_mm=(4.2, 3.6, 5.0), orientation="LPS")
    return phantom.image, phantom.labels, phantom.affine


def crop_of_two_balls(case):
    """A bright and a brighter ball, in front and behind, as large as a T1 crop of the hippocampus."""
    generator = np.random.default_rng(case)
    shape = (34 + case, 48, 36)
    labels = np.zeros(shape, np.uint8)
    for value, centre_y in ((1, 32), (2, 18)):
        centre = np.array([17, centre_y, 18]) + generator.uniform(-2, 2, 3)
        labels[np.linalg.norm(np.indices(shape).T - centre, axis=-1).T < 6] = value
    image = 100 + 60.0 * labels + generator.normal(0, 10, shape)
    return image.astype(np.float32), labels, np.eye(4)


MADE = {"hippocampus_mr_segmentation": crop_of_two_balls, "phantom_ct_segmentation": chest}


@pytest.fixture
def data(request, tmp_path):
    """Six cases of the kind that the bundle takes, named like none of its own."""
    folder = tmp_path / "data"
    for case in range(CASES):
        image, labels, affine = MADE[request.param](case)
        save_nifti(image, folder / "images" / f"made_{case}.nii.gz", affine)
        save_nifti(labels, folder / "labels" / f"made_{case}.nii.gz", affine)
    return folder


@pytest.fixture
def bundle(request, tmp_path):
    """A copy, so that the shipped weights stay as they are."""
    return shutil.copytree(ROOT / "bundles" / request.param, tmp_path / request.param)


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "data"), [(name, name) for name in BUNDLES], indirect=True)
def test_monai_trains_scores_and_runs_it(bundle, data, monai_bundle, tmp_path):
    parts = {"dataset_dir": data, "fractions": [0.5, 0.2, 0.3]}
    monai_bundle("run", bundle, ["train"], epochs=1, **parts)
    monai_bundle("run", bundle, ["train", "evaluate"], **parts)
    monai_bundle("run", bundle, ["inference"], dataset_dir=data / "images", output_dir=tmp_path / "monai")
    with (bundle / "eval" / "val_mean_dice_raw.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = len(json.loads((bundle / "configs" / "metadata.json").read_text())["pred_classes"].split(", "))
    assert len(rows) == 2
    assert all(len(row) == classes + 1 for row in rows)
    medseg.predict(bundle, data / "images", tmp_path / "medseg")
    for case in range(CASES):
        name = f"made_{case}.nii.gz"
        image, theirs, ours = (
            nibabel.load(place / name) for place in (data / "images", tmp_path / "monai", tmp_path / "medseg")
        )
        assert theirs.shape == image.shape
        np.testing.assert_allclose(theirs.affine, image.affine, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))


@pytest.mark.parametrize("name", BUNDLES)
def test_its_weights_fit_and_are_finite(name):
    """``open_bundle`` loads strictly and refuses NaN; the file is small enough for the repository."""
    path = ROOT / "bundles" / name / "models" / "model.pt"
    bundle = open_bundle(name)
    state = bundle.network.state_dict()
    saved = torch.load(path, weights_only=True)
    assert all(torch.equal(state[key], saved[key]) for key in state)
    assert path.stat().st_size < 25_000_000


@pytest.mark.parametrize("name", BUNDLES)
def test_its_split_is_by_case_and_leaves_none_out(name):
    split = json.loads((ROOT / "bundles" / name / "configs" / "split.json").read_text())
    parts = [set(split[part]) for part in ("train", "validation", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
