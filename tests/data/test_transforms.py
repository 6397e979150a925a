import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.data.transforms import AlignToImaged
from medseg.errors import GridError


def tensor(array, affine):
    return MetaTensor(torch.as_tensor(array.copy())[None], affine=torch.as_tensor(affine))


@pytest.fixture
def image():
    return tensor(np.zeros((4, 5, 6), np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))


def test_a_label_on_the_image_s_grid_is_left_alone(image):
    label = tensor(np.arange(120).reshape(4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]))
    assert AlignToImaged("label")({"image": image, "label": label})["label"] is label


def test_a_label_stored_the_other_way_round_is_turned_exactly(image):
    voxels = np.arange(120).reshape(4, 5, 6)
    flipped = np.diag([1.0, -2.0, 3.0, 1.0])
    flipped[1, 3] = 8.0
    made = AlignToImaged("label")({"image": image, "label": tensor(voxels[:, ::-1], flipped)})["label"]
    assert np.array_equal(made[0].numpy(), voxels)
    assert np.allclose(made.affine, image.affine)


def test_a_label_one_voxel_off_is_refused(image):
    shifted = np.diag([1.0, 2.0, 3.0, 1.0])
    shifted[0, 3] = 1.0
    with pytest.raises(GridError, match="GRID_MISMATCH"):
        AlignToImaged("label")({"image": image, "label": tensor(np.zeros((4, 5, 6), int), shifted)})


def test_a_missing_label_is_passed_over_if_allowed(image):
    assert set(AlignToImaged("label", allow_missing_keys=True)({"image": image})) == {"image"}
