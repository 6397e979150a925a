import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, EnsureChannelFirstd, LoadImaged, SqueezeDimd

from medseg.data.dicom.synthetic_ct import write_ct_series
from medseg.data.transforms import AlignToImaged, GreyToOneChanneld, SuppressOutsided
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


def test_a_label_within_a_tenth_of_a_voxel_takes_the_image_s_grid(image):
    shifted = np.diag([1.0, 2.0, 3.0, 1.0])
    shifted[0, 3] = 0.09
    voxels = np.arange(120).reshape(4, 5, 6)
    made = AlignToImaged("label")({"image": image, "label": tensor(voxels, shifted)})["label"]
    assert np.array_equal(made[0].numpy(), voxels)
    assert np.array_equal(made.affine, image.affine)


def test_a_missing_label_is_passed_over_if_allowed(image):
    assert set(AlignToImaged("label", allow_missing_keys=True)({"image": image})) == {"image"}


def test_an_npz_stack_of_slices_loads_onto_its_dicom_series(tmp_path):
    hounsfield = np.random.default_rng(0).integers(-1024, 2000, (6, 6, 4)).astype(np.int16)
    write_ct_series(hounsfield, np.diag([-1.5, -1.5, 3, 1]), tmp_path / "p", seed_uid="npz")
    np.savez(tmp_path / "p.npz", np.stack([hounsfield[:, :, z].T > 0 for z in range(4)]))
    chain = Compose(
        [
            LoadImaged("image", reader="medseg.data.images.VolumeReader", image_only=True),
            LoadImaged("label", reader="medseg.data.images.MaskReader", image_only=True, values=[0, 1]),
            EnsureChannelFirstd(["image", "label"]),
            AlignToImaged("label"),
        ]
    )
    data = chain({"image": str(tmp_path / "p"), "label": str(tmp_path / "p.npz")})
    assert torch.equal(data["label"].as_tensor() > 0, data["image"].as_tensor() > 0)
    assert torch.allclose(data["label"].affine, data["image"].affine)


def test_a_bare_label_of_another_slice_count_is_refused(image):
    label = MetaTensor(torch.zeros(1, 5, 5, 4), meta={"has_grid": False})
    with pytest.raises(GridError, match="SLICES_DIFFER"):
        AlignToImaged("label")({"image": image, "label": label})


def test_the_two_halves_of_a_mask_load_as_one_label(tmp_path):
    from PIL import Image

    halves = np.zeros((2, 4, 3), np.uint8)
    halves[0, 0], halves[1, 2] = 255, 255
    for number, half in enumerate(halves):
        Image.fromarray(half).save(tmp_path / f"{number}.png")
    load = LoadImaged("label", reader="medseg.data.images.MaskReader", image_only=True, values=[0, 1])
    label = load({"label": [str(tmp_path / "0.png"), str(tmp_path / "1.png")]})["label"]
    assert label.numpy()[0].tolist() == [1, 0, 1, 0]
    assert EnsureChannelFirstd("label")({"label": label})["label"].shape == (1, 3, 4)


def masked(value=None):
    image = MetaTensor(torch.arange(24.0).reshape(2, 3, 4) - 5, affine=torch.eye(4))
    label = MetaTensor(torch.zeros(1, 3, 4))
    label[0, 1, 1:3] = 2
    return image, label, SuppressOutsided("image", value=value)({"image": image, "label": label})["image"]


@pytest.mark.parametrize(("value", "outside"), [(-1000.0, (-1000, -1000)), (None, (-5, 7))])
def test_outside_the_mask_all_is_one_value_and_inside_nothing_changes(value, outside):
    image, label, suppressed = masked(value)
    inside = label[0] > 0
    assert torch.equal(suppressed[:, inside].as_tensor(), image[:, inside].as_tensor())
    for channel, expected in zip(suppressed, outside, strict=True):
        assert set(channel[~inside].tolist()) == {expected}
    assert image[0, 0, 0] == -5
    assert torch.equal(suppressed.affine, image.affine)


def test_an_empty_mask_leaves_one_value_throughout():
    data = {"image": MetaTensor(torch.rand(1, 3, 4)), "label": MetaTensor(torch.zeros(1, 3, 4))}
    assert set(SuppressOutsided("image", value=-1)(data)["image"].flatten().tolist()) == {-1}


def test_a_mask_of_another_size_is_refused():
    data = {"image": MetaTensor(torch.rand(1, 3, 4)), "label": MetaTensor(torch.zeros(1, 3, 5))}
    with pytest.raises(GridError, match="SHAPE_MISMATCH"):
        SuppressOutsided("image")(data)


def test_monai_crops_image_and_label_to_the_label_s_cuboid_with_a_margin(image):
    label = tensor(np.zeros((4, 5, 6), np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))
    label[0, 1:3, 2:4, 3] = 1
    crop = CropForegroundd(["image", "label"], source_key="label", margin=[1, 1, 0], allow_smaller=True)
    cropped = crop({"image": image, "label": label})
    assert cropped["image"].shape == cropped["label"].shape == (1, 4, 4, 1)
    assert cropped["label"].sum() == label.sum()
    assert torch.equal(cropped["image"].affine[:3, 3], torch.tensor([0.0, 2.0, 9.0], dtype=torch.float64))


@pytest.mark.filterwarnings("error")
def test_monai_squeezes_a_slice_cut_in_any_direction_without_breaking_its_matrix():
    sagittal = np.array([[0, 0, 8, 1], [1.5, 0.1, 0, 2], [0.1, -1.5, 0, 3], [0, 0, 0, 1.0]])
    data = {"image": tensor(np.zeros((4, 5, 1), np.float32), sagittal)}
    plane = SqueezeDimd("image", dim=-1, update_meta=False)(data)["image"]
    assert plane.shape == (1, 4, 5)
    assert torch.linalg.det(plane.affine) != 0


def test_a_grey_picture_saved_as_colours_becomes_one_channel_and_colours_stay():
    grey = MetaTensor(torch.arange(12.0).reshape(1, 3, 4).repeat(3, 1, 1))
    colours = MetaTensor(torch.arange(36.0).reshape(3, 3, 4))
    one = GreyToOneChanneld("image")({"image": grey})["image"]
    assert torch.equal(one, grey[:1])
    assert torch.equal(GreyToOneChanneld("image")({"image": colours})["image"], colours)
    assert torch.equal(GreyToOneChanneld("image")({"image": one})["image"], one)
