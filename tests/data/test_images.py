"""MONAI's LoadImaged and SaveImaged through medseg's reader and writer."""

import struct
from pydoc import locate

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd, SaveImage, SaveImaged

from medseg.data import images
from medseg.data.read import read
from medseg.data.write import write
from medseg.errors import GridError, ImageError

AFFINE = np.array([[-1.5, 0.2, 0, 10], [-0.15, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 60
READER, WRITER = "medseg.data.images.VolumeReader", "medseg.data.images.VolumeWriter"
TO_RAS = Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
FLIP_Z = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]])


def load(path, reader=READER):
    return LoadImage(reader=reader, image_only=True, ensure_channel_first=True)(path)


def saving(folder, **options):
    return SaveImage(
        output_dir=folder, writer=WRITER, output_postfix="", separate_folder=False, print_log=False, **options
    )


@pytest.mark.parametrize("name", [READER, WRITER])
def test_the_dotted_path_of_a_bundle_finds_the_class(name):
    assert locate(name).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize("name", ["VolumeReader", "MaskReader", "VolumeWriter"])
def test_the_classes_that_bundles_name_are_at_home_here(name):
    assert getattr(images, name).__module__ == "medseg.data.images"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = images.nothing


@pytest.mark.parametrize(
    ("array", "name", "has_channels", "peer"),
    [
        (VOXELS, "a.nii.gz", False, "NibabelReader"),
        (np.stack([VOXELS, VOXELS + 1]), "a.nii.gz", True, "NibabelReader"),
        (VOXELS[:, :, 0], "a.nii.gz", False, "NibabelReader"),
        (np.arange(30, dtype=np.uint8).reshape(6, 5), "a.png", False, "PILReader"),
        (np.arange(90, dtype=np.uint8).reshape(3, 6, 5), "a.png", True, "PILReader"),
    ],
    ids=["volume", "channels", "plane", "grey", "colour"],
)
def test_array_type_and_affine_are_those_of_monai_s_own_reader(tmp_path, array, name, has_channels, peer):
    path = write(array, AFFINE, tmp_path / name, has_channels=has_channels)
    ours, theirs = load(path), load(path, peer)
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.affine, theirs.affine)
    assert list(ours.meta["spatial_shape"]) == list(theirs.meta["spatial_shape"])
    assert ours.meta["space"] == theirs.meta.get("space", "RAS")


def test_dictionary_transforms_find_the_channel_of_a_3d_and_of_a_4d_image(tmp_path):
    plain = str(write(VOXELS, AFFINE, tmp_path / "a.nii.gz"))
    both = str(write(np.stack([VOXELS, VOXELS]), AFFINE, tmp_path / "b.nii.gz", has_channels=True))
    keys = ["image", "label"]
    chain = Compose([LoadImaged(keys, reader=READER, image_only=True), EnsureChannelFirstd(keys)])
    item = chain({"image": both, "label": plain})
    assert item["image"].shape == (2, 6, 5, 4)
    assert item["label"].shape == (1, 6, 5, 4)


def test_a_list_of_files_becomes_channels_in_its_order_on_the_first_grid(tmp_path):
    first = write(VOXELS, AFFINE, tmp_path / "a.nii.gz")
    stored_upside_down = write(VOXELS[:, :, ::-1] + 1, AFFINE @ FLIP_Z, tmp_path / "b.nii.gz")
    image = load([first, stored_upside_down])
    np.testing.assert_array_equal(image.numpy(), np.stack([VOXELS, VOXELS + 1]))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_channels_on_different_grids_are_refused(tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    paths = [write(VOXELS, AFFINE, tmp_path / "a.nii.gz"), write(VOXELS, moved, tmp_path / "b.nii.gz")]
    with pytest.raises(GridError, match=r"GRID_MISMATCH.*b\.nii\.gz"):
        load(paths)


def test_a_refused_file_is_not_handed_to_laxer_readers(tmp_path):
    path = write(VOXELS, AFFINE, tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 112, np.inf)  # the slope
    path.write_bytes(data)
    assert load(path, "NibabelReader").shape == (1, 6, 5, 4)
    with pytest.raises(ImageError, match="IMAGE_SCALING"):
        load(path)


def test_slices_of_a_stack_load_as_2d_images(tmp_path):
    path = write(VOXELS.astype(np.uint8), np.eye(4), tmp_path / "a.tif")
    np.testing.assert_array_equal(load(f"{path}#2").numpy()[0], VOXELS[:, :, 2].astype(np.uint8))


def test_notes_travel_as_text_in_the_metadata(tmp_path):
    array = VOXELS.astype(np.float32)
    array[0, 0, 0] = np.nan
    assert load(write(array, AFFINE, tmp_path / "a.nii.gz")).meta["notes"].startswith("NONFINITE_VOXELS: 1 of 120")


def test_batches_of_images_with_and_without_notes_collate(tmp_path):
    odd = VOXELS.astype(np.float32)
    odd[0, 0, 0] = np.nan
    paths = [write(VOXELS, AFFINE, tmp_path / "a.nii.gz"), write(odd, AFFINE, tmp_path / "b.nii.gz")]
    chain = LoadImaged("image", reader=READER, image_only=True, ensure_channel_first=True)
    (batch,) = DataLoader(Dataset([{"image": str(path)} for path in paths], chain), batch_size=2)
    assert batch["image"].shape == (2, 1, 6, 5, 4)


@pytest.mark.parametrize(
    ("names", "expected"),
    [("a.nii.gz", True), (["a.nrrd", "b.dcm"], True), ("pages.tif#3", True), (["a.nii", "b.txt"], False)],
)
def test_suffixes_are_verified(names, expected):
    assert locate(READER)().verify_suffix(names) is expected


def test_a_saved_mask_equals_the_file_that_write_makes(tmp_path):
    image = load(write(VOXELS, AFFINE, tmp_path / "a.nii.gz"))
    mask = (image > 3).to(torch.int64)
    saving(tmp_path / "out", output_ext=".nii.gz", resample=False, output_dtype=np.uint8)(mask)
    expected = write(VOXELS > 3, AFFINE, tmp_path / "expected.nii.gz")
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == expected.read_bytes()


def test_a_dictionary_is_saved_under_its_input_s_name(tmp_path):
    path = write(VOXELS, AFFINE, tmp_path / "a.nii.gz")
    item = LoadImaged("label", reader=READER, image_only=True, ensure_channel_first=True)({"label": str(path)})
    options = {"output_ext": ".nrrd", "output_postfix": "seg", "resample": False, "output_dtype": np.int16}
    SaveImaged("label", output_dir=tmp_path, writer=WRITER, separate_folder=False, print_log=False, **options)(item)
    np.testing.assert_array_equal(read(tmp_path / "a_seg.nrrd").array, VOXELS)


def test_several_channels_are_saved_as_channels(tmp_path):
    both = np.stack([VOXELS, VOXELS + 1])
    image = load(write(both, AFFINE, tmp_path / "a.nii.gz", has_channels=True))
    saving(tmp_path / "out", output_ext=".nii.gz", resample=False)(image)
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.nii.gz").array, both)


def test_a_single_slice_keeps_its_third_axis(tmp_path):
    image = load(write(VOXELS[:, :, :1], AFFINE, tmp_path / "a.nii.gz"))
    saving(tmp_path / "out", output_ext=".nii.gz", resample=False)(image)
    assert read(tmp_path / "out" / "a.nii.gz").array.shape == (6, 5, 1)


def test_a_2d_mask_is_saved_as_a_picture(tmp_path):
    grey = np.arange(30, dtype=np.uint8).reshape(6, 5)
    image = load(write(grey, np.eye(4), tmp_path / "a.png"))
    saving(tmp_path / "out", output_ext=".png", resample=False, output_dtype=np.uint8)(image)
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png").array, grey)


def test_resampling_brings_a_reoriented_image_back_to_its_own_grid(tmp_path):
    path = write(VOXELS, np.diag([-1.5, 2, -3, 1]), tmp_path / "a.nii.gz")
    item = {"image": load(path)}
    turned = TO_RAS(item)["image"]
    assert not torch.equal(turned.as_tensor(), item["image"].as_tensor())
    saving(tmp_path / "out", output_ext=".nii.gz", resample=True, output_dtype=np.int16)(turned)
    volume = read(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_allclose(volume.affine, np.diag([-1.5, 2, -3, 1]), atol=1e-6)


def test_without_resampling_a_reoriented_image_lies_on_its_current_grid(tmp_path):
    image = load(write(VOXELS, np.diag([-1.5, 2, -3, 1]), tmp_path / "a.nii.gz"))
    turned = TO_RAS({"image": image})["image"]
    saving(tmp_path / "out", output_ext=".nii.gz", resample=False, output_dtype=np.int16)(turned)
    assert read(tmp_path / "out" / "a.nii.gz").grid.orientation == "RAS"


def test_probabilities_can_be_scaled_to_bytes(tmp_path):
    probability = np.linspace(-0.1, 1.1, 30, dtype=np.float32).reshape(1, 6, 5)
    saving(tmp_path, output_ext=".png", resample=False, scale=255)(probability, {"filename_or_obj": "a.png"})
    stored = read(tmp_path / "a.png").array
    np.testing.assert_array_equal(stored, np.rint(np.clip(probability[0], 0, 1) * 255))


def test_a_failed_save_raises_and_leaves_no_file(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(RuntimeError, match="OUTPUT_UNWRITABLE"):
        saving(tmp_path, output_ext=".nii.gz", resample=False)(VOXELS[None], {"filename_or_obj": "a.nii.gz"})
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
