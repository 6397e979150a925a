import itertools
import json

import nibabel
import numpy as np
import pytest

from medseg.demonstration.phantom import LABELS, make_phantom, write_phantoms
from medseg.errors import UsageError
from medseg.geometry import orientation, spacing_mm

SHAPE = (48, 48, 36)


def volumes_ml(phantom):
    voxel_ml = abs(np.linalg.det(phantom.affine[:3, :3])) / 1000
    return np.bincount(phantom.labels.ravel(), minlength=len(LABELS)) * voxel_ml


def centroid_mm(phantom, value):
    index = np.argwhere(phantom.labels == value).mean(axis=0)
    return phantom.affine[:3, :3] @ index + phantom.affine[:3, 3]


def test_one_seed_gives_the_same_scan_twice():
    first, second = (make_phantom(5, SHAPE, oblique_degrees=7) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.affine, second.affine)


def test_two_seeds_give_two_patients():
    first, second = (make_phantom(seed, SHAPE, (5, 5, 6), noise_hu=0) for seed in (1, 2))
    assert (first.labels != second.labels).mean() > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_every_label_is_present_and_lies_where_it_should(seed):
    phantom = make_phantom(seed, SHAPE, oblique_degrees=12, orientation=("RAS", "LPS", "PIR")[seed % 3])
    assert set(np.unique(phantom.labels)) == set(LABELS)
    place = {name: centroid_mm(phantom, value) for value, name in LABELS.items()}
    assert place["left lung"][0] < -25 < 25 < place["right lung"][0]
    assert place["heart cavity"][0] < 0, "the heart lies to the left"
    assert place["vertebrae"][1] < place["left lung"][1] - 15, "the spine lies behind"
    assert place["heart cavity"][2] < place["left lung"][2], "the heart lies low between the lungs"


@pytest.mark.parametrize("seed", [0, 7])
def test_one_patient_has_the_same_volumes_on_two_grids(seed):
    upright = make_phantom(seed, (96, 80, 64), (2.6, 2.8, 3.6))
    tilted = make_phantom(seed, (64, 72, 84), (3.4, 2.9, 3.1), oblique_degrees=15, orientation="LPS")
    organs = [1, 2, 3, 4]
    np.testing.assert_allclose(volumes_ml(upright)[organs], volumes_ml(tilted)[organs], rtol=0.03)
    np.testing.assert_allclose(volumes_ml(upright)[6], volumes_ml(tilted)[6], rtol=0.12)


def test_each_tissue_has_its_brightness():
    phantom = make_phantom(4, (64, 64, 48), noise_hu=10)
    mean_hu = {name: phantom.image[phantom.labels == value].mean() for value, name in LABELS.items()}
    assert -900 < mean_hu["left lung"] < -650
    assert 70 < mean_hu["myocardium"] < 170
    assert 170 < mean_hu["heart cavity"] < 340
    assert 150 < mean_hu["vertebrae"] < 700
    assert phantom.image[0, 0].mean() == pytest.approx(-1000, abs=30), "air in the corner"
    assert phantom.image.dtype == np.int16
    assert phantom.labels.dtype == np.uint8


def test_voxels_on_a_boundary_mix_the_two_tissues():
    phantom = make_phantom(4, (64, 64, 48), noise_hu=0)
    cavity = phantom.labels == 4
    inside, outside = cavity[:-1] & ~cavity[1:], phantom.labels[1:] == 3
    step_hu = phantom.image[:-1][inside & outside].astype(int) - phantom.image[1:][inside & outside]
    interior_hu = phantom.image[cavity].max() - np.median(phantom.image[phantom.labels == 3])
    assert 0 < np.median(step_hu) < 0.8 * interior_hu


def test_noise_has_the_strength_asked_for():
    quiet, noisy = (make_phantom(4, SHAPE, noise_hu=sigma) for sigma in (0, 25))
    above_floor = quiet.image > -700
    assert np.std((noisy.image - quiet.image)[above_floor]) == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("degrees", [0.0, 9.0])
def test_the_grid_is_the_one_asked_for(degrees):
    affine = make_phantom(0, (8, 9, 10), (2, 3, 4), degrees, "LPS").affine
    np.testing.assert_allclose(spacing_mm(affine), (2, 3, 4))
    assert orientation(affine) == "LPS"
    turn = affine[:3, :3] @ np.diag([-1 / 2, -1 / 3, 1 / 4])
    assert np.rad2deg(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(degrees, abs=1e-4)


@pytest.mark.parametrize(
    "request_", [{"seed": -1}, {"shape": (1, 8, 8)}, {"spacing_mm": (0, 1, 1)}, {"orientation": "RRS"}]
)
def test_an_impossible_grid_is_refused(request_):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        make_phantom(**{"seed": 0, "shape": (8, 8, 8), **request_})


def test_a_written_set_is_described_and_its_grids_vary(tmp_path):
    description = json.loads(write_phantoms(tmp_path, 3, seed=1, shape=(24, 24, 16)).read_text())
    assert description["labels"]["1"] == "left lung"
    assert description["numTraining"] == len(description["training"]) == 3
    affines = []
    for index, pair in enumerate(description["training"]):
        image, label = (nibabel.load(tmp_path / pair[key]) for key in ("image", "label"))
        np.testing.assert_allclose(image.affine, label.affine)
        assert image.shape == label.shape == (24, 24, 16)
        assert (np.abs(image.affine[:3, :3]) > 1e-3).sum() == (9 if index % 2 else 3)
        affines.append(image.affine)
    for first, second in itertools.combinations(affines, 2):
        assert not np.allclose(first, second)
