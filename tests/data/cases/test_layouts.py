""""""

import numpy as np
import pytest
from PIL import Image

from medseg.data.cases import open_dataset
from medseg.data.cases.layouts import LAYOUTS
from medseg.errors import DatasetError

PLACES = {
    "nnunet": ["imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz"],
    "acdc": [f"patient00{p}/patient00{p}_frame0{f}{gt}.nii.gz" for p in (1, 2) for f in (1, 9) for gt in ("", "_gt")],
    "brats": [f"BraTS20_{c}/BraTS20_{c}_{m}.nii.gz" for c in "ab" for m in ("t2", "t1", "flair", "t1ce", "seg")],
    "chest-x-rays": [f"{p}/MCUCXR_000{n}_0.png" for p in ("CXR_png", "masks") for n in (1, 2)],
    "image-and-mask-folders": ["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"],
    "nested-folders": [f"set/{p}/{n}.tif" for p in ("Original", "Ground Truth") for n in "ab"],
    "side-by-side": [
        f"TCGA_DU_000{p}_1/TCGA_DU_000{p}_1_{s}{m}.tif" for p in (1, 2) for s in (1, 2) for m in ("", "_mask")
    ],
}


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0")
    return root


def ids(dataset):
    return [case.id for case in dataset.cases]


def unpaired(root, code="CASES_UNPAIRED"):
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    assert caught.value.code == code
    return caught.value.problem


def stack(path, pages):
    images = [Image.fromarray(np.full((4, 4), page, np.uint8)) for page in range(pages)]
    images[0].save(path, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("layout", PLACES)
def test_each_layout_is_recognised_with_an_image_and_a_mask_for_each_case(tmp_path, layout):
    dataset = open_dataset(touch(tmp_path, PLACES[layout]))
    assert dataset.layout == layout
    assert len(dataset.cases) == len([name for name in PLACES[layout] if not name.endswith("_seg.nii.gz")]) / (
        4 if layout == "brats" else 2
    )
    used = [path for case in dataset.cases for path in (*case.images, *case.label_files)]
    assert sorted(used) == sorted(str(tmp_path / name) for name in PLACES[layout])


@pytest.mark.parametrize("layout", PLACES)
def test_hidden_copies_are_left_out_of_each_layout(tmp_path, layout):
    hidden = [name.rsplit("/", 1)[0] + "/._" + name.rsplit("/", 1)[1] for name in PLACES[layout]]
    assert ids(open_dataset(touch(tmp_path, PLACES[layout] + hidden))) == ids(
        open_dataset(touch(tmp_path, PLACES[layout]))
    )


@pytest.mark.parametrize("layout", PLACES)
@pytest.mark.parametrize("position", [0, -1])
def test_a_case_that_lost_a_file_is_named(tmp_path, layout, position):
    names = list(PLACES[layout])
    lost = names.pop(position)
    partner = lost.rsplit("/", 1)[1].split(".")[0].split("_0000")[0]
    for ending in ("_gt", "_mask", "_seg", "_t2"):
        partner = partner.removesuffix(ending)
    is_channel = layout == "brats" and position == 0
    assert partner in unpaired(touch(tmp_path, names), "CHANNELS_MISSING" if is_channel else "CASES_UNPAIRED")


def test_every_layout_has_a_name_of_its_own_and_says_what_it_looks_like():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
    assert all(layout.looks_like and layout.recognise.__doc__ for layout in LAYOUTS)


def test_all_lone_files_are_named_at_once(tmp_path):
    problem = unpaired(touch(tmp_path, ["images/a.png", "images/b.png", "masks/a.png", "masks/c.png", "masks/d.png"]))
    assert "images/b.png has no mask" in problem
    assert "masks/c.png has no image" in problem
    assert "masks/d.png has no image" in problem
    assert "a.png has" not in problem


@pytest.mark.parametrize("images", ["images", "imgs", "Image", "imagesTr"])
@pytest.mark.parametrize(("masks", "ending"), [("masks", "_mask"), ("labels", ""), ("label", "-seg"), ("gt", "_gt")])
def test_folders_and_endings_may_have_their_usual_names(tmp_path, images, masks, ending):
    dataset = open_dataset(touch(tmp_path, [f"{images}/x_1.jpg", f"{masks}/x_1{ending}.png"]))
    assert ids(dataset) == ["x_1"]


def test_folders_of_images_and_masks_may_have_subfolders(tmp_path):
    names = [f"{part}/{place}/s.png" for part in ("images", "masks") for place in "ab"]
    assert ids(open_dataset(touch(tmp_path, names))) == ["a/s", "b/s"]


def test_two_masks_of_one_image_are_refused(tmp_path):
    assert "masks/a_mask.png" in unpaired(touch(tmp_path, ["images/a.png", "masks/a.png", "masks/a_mask.png"]))


def test_two_images_of_one_name_are_refused(tmp_path):
    problem = unpaired(touch(tmp_path, ["images/a.png", "images/a.jpg", "images/b.png", "masks/a.png", "masks/b.png"]))
    assert "images/a.png" in problem
    assert "images/a.jpg" in problem
    assert "b.png" not in problem


def test_two_masks_beside_one_image_are_refused(tmp_path):
    assert "x/a_seg.tif" in unpaired(touch(tmp_path, ["x/a.tif", "x/a_mask.tif", "x/a_seg.tif"]))


def test_nnunet_channels_stay_in_order_and_together(tmp_path):
    names = [f"imagesTr/a_000{c}.nii.gz" for c in (2, 0, 1)] + ["labelsTr/a.nii.gz"]
    (case,) = open_dataset(touch(tmp_path, names)).cases
    assert [image[-8] for image in case.images] == ["0", "1", "2"]


def test_an_nnunet_case_that_lacks_a_channel_is_named(tmp_path):
    names = ["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "labelsTr/a.nii", "imagesTr/b_0000.nii", "labelsTr/b.nii"]
    problem = unpaired(touch(tmp_path, names))
    assert "b_0000.nii" in problem
    assert "a_0000.nii" not in problem


def test_numbered_images_with_masks_of_the_same_names_are_plain_pairs(tmp_path):
    names = [f"{part}/s_{number:04d}.png" for part in ("imagesTr", "labelsTr") for number in range(3)]
    dataset = open_dataset(touch(tmp_path, names))
    assert (dataset.layout, len(dataset.cases)) == ("image-and-mask-folders", 3)


def test_acdc_frames_belong_to_their_patient_and_the_cine_is_left_out(tmp_path):
    dataset = open_dataset(touch(tmp_path, [*PLACES["acdc"], "patient001/patient001_4d.nii.gz", "patient001/Info.cfg"]))
    assert ids(dataset)[0] == "patient001_frame01"
    assert [case.group for case in dataset.cases] == ["patient001"] * 2 + ["patient002"] * 2
    assert dataset.labels.names[3] == "left ventricle"


def test_brats_channels_come_in_one_order_and_are_named(tmp_path):
    dataset = open_dataset(touch(tmp_path, PLACES["brats"]))
    assert dataset.channels == ("flair", "t1", "t1ce", "t2")
    assert [image.rsplit("_", 1)[1] for image in dataset.cases[0].images] == [f"{c}.nii.gz" for c in dataset.channels]
    assert ids(dataset) == ["BraTS20_a", "BraTS20_b"]


def test_newer_and_older_brats_names_are_known_and_other_volumes_left_out(tmp_path):
    newer = [f"new/C-1-{m}.nii.gz" for m in ("t1n", "t1c", "t2w", "t2f", "seg")]
    older = [f"old/{m}.nii.gz" for m in ("Flair_x", "T1_x", "T1c_x", "T2_x", "OTMultiClass", "brainmask")]
    first, second = open_dataset(touch(tmp_path, newer + older)).cases
    assert [image.rsplit("/", 1)[1] for image in first.images] == [
        f"C-1-{m}.nii.gz" for m in ("t2f", "t1n", "t1c", "t2w")
    ]
    assert second.images[2].endswith("old/T1c_x.nii.gz")


def test_a_brats_case_with_two_files_for_one_channel_is_refused(tmp_path):
    problem = unpaired(touch(tmp_path, [*PLACES["brats"], "BraTS20_a/BraTS20_a_t2w.nii.gz"]))
    assert "BraTS20_a_t2w" in problem
    assert "BraTS20_b" not in problem


def test_each_page_of_a_stack_is_a_case(tmp_path):
    stack(tmp_path / "train-volume.tif", 3)
    stack(tmp_path / "train-labels.tif", 3)
    stack(tmp_path / "test-volume.tif", 2)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "tiff-stacks"
    assert ids(dataset) == [f"train-volume_00{page}" for page in range(3)]
    assert dataset.cases[2].images == (f"{tmp_path}/train-volume.tif#2",)
    assert dataset.cases[2].label == f"{tmp_path}/train-labels.tif#2"


def test_a_stack_of_one_page_is_a_plain_image(tmp_path):
    stack(tmp_path / "train-volume.tif", 1)
    stack(tmp_path / "train-labels.tif", 1)
    assert open_dataset(tmp_path).cases[0].images == (f"{tmp_path}/train-volume.tif",)


def test_stacks_with_different_page_counts_are_refused(tmp_path):
    stack(tmp_path / "train-volume.tif", 3)
    stack(tmp_path / "train-labels.tif", 2)
    with pytest.raises(DatasetError, match="PAGES_DIFFER"):
        open_dataset(tmp_path)


def test_a_stack_that_is_no_tiff_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="STACK_UNREADABLE"):
        open_dataset(touch(tmp_path, ["train-volume.tif", "train-labels.tif"]))


@pytest.mark.parametrize("mask", ["p{}/mask.npz", "p{}.npz", "masks/p{}.npz", "masks/p{}_mask.npz"])
def test_a_dicom_folder_takes_the_npz_inside_or_beside_it_or_of_its_name(tmp_path, mask):
    (tmp_path / "masks").mkdir()
    for case in (1, 2):
        dicom_slice(tmp_path / f"p{case}")
        np.savez(tmp_path / mask.format(case), np.zeros((4, 4, 1), np.uint8))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "dicom-and-npz"
    assert ids(dataset) == ["p1", "p2"]
    assert dataset.cases[1].images == (str(tmp_path / "p2"),)
    assert dataset.cases[1].label == str(tmp_path / mask.format(2))


def test_a_dicom_folder_without_its_npz_is_named(tmp_path):
    for case in (1, 2):
        dicom_slice(tmp_path / f"p{case}")
    np.savez(tmp_path / "p1.npz", np.zeros(1))
    assert "p2 has no mask" in unpaired(tmp_path)


def test_an_npz_that_two_dicom_folders_could_own_is_refused(tmp_path):
    for place in ("a/ct", "b/ct"):
        dicom_slice(tmp_path / place)
    (tmp_path / "masks").mkdir()
    np.savez(tmp_path / "masks/ct.npz", np.zeros(1))
    problem = unpaired(tmp_path)
    assert "a/ct has no mask" in problem
    assert "b/ct has no mask" in problem
    assert "masks/ct.npz has no image" in problem


def test_folders_of_images_and_masks_hold_dicom_and_npz_too(tmp_path):
    dicom_slice(tmp_path / "images/p1")
    (tmp_path / "masks").mkdir()
    np.savez(tmp_path / "masks/p1.npz", np.zeros(1))
    assert ids(open_dataset(tmp_path)) == ["p1"]


def dicom_slice(folder):
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    slice_ = pydicom.Dataset()
    slice_.file_meta = pydicom.dataset.FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID, slice_.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    slice_.SeriesInstanceUID, slice_.Modality = generate_uid(), "CT"
    slice_.Rows = slice_.Columns = 4
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.PixelData = [1, 1], np.zeros((4, 4), np.int16).tobytes()
    slice_.save_as(folder / "0.dcm", enforce_file_format=True)


def test_two_folders_of_masks_are_refused_for_one_may_hold_predictions(tmp_path):
    touch(tmp_path, ["scans/a.png", "masks/a.png", "references/a.png"])
    with pytest.raises(DatasetError, match="MASK_FOLDERS_SEVERAL.*masks and references"):
        open_dataset(tmp_path)


def test_each_page_of_a_stack_is_a_group_of_its_own(tmp_path):
    stack(tmp_path / "train-volume.tif", 3)
    stack(tmp_path / "train-labels.tif", 3)
    assert len({case.group for case in open_dataset(tmp_path).cases}) == 3


def refusal(root):
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return caught.value


@pytest.mark.parametrize("opened", ["", "lgg-mri-segmentation", "lgg-mri-segmentation/kaggle_3m"])
def test_kaggle_s_lgg_opens_from_any_of_its_folders_and_groups_by_patient(tmp_path, opened):
    root = "lgg-mri-segmentation/kaggle_3m"
    patients = ("TCGA_CS_4941_19960909", "TCGA_HT_A61A_20000127")
    touch(tmp_path, [f"{root}/{p}/{p}_{s}{m}.tif" for p in patients for s in (1, 2) for m in ("", "_mask")])
    touch(tmp_path, [f"{root}/README.md", f"{root}/data.csv"])
    dataset = open_dataset(tmp_path / opened)
    assert ids(dataset) == [f"{p}_{s}" for p in patients for s in (1, 2)]
    assert {case.group for case in dataset.cases} == {"TCGA_CS_4941", "TCGA_HT_A61A"}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("Original/{}.tif", "Ground Truth/{}.tif"),
        ("original/{}.tiff", "ground truth/{}.tiff"),
        ("CVC-ClinicDB/Original/{}.tif", "CVC-ClinicDB/Ground Truth/{}.tif"),
        ("archive/CVC-ClinicDB/original/{}.tiff", "archive/CVC-ClinicDB/ground truth/{}.tiff"),
        ("PNG/Original/{}.png", "PNG/Ground Truth/{}.png"),
    ],
)
def test_cvc_clinicdb_opens_from_its_folder_or_from_above(tmp_path, images, masks):
    touch(tmp_path, [form.format(number) for form in (images, masks) for number in (1, 612)])
    dataset = open_dataset(tmp_path)
    assert ids(dataset) == ["1", "612"]
    assert [case.label for case in dataset.cases] == [str(tmp_path / masks.format(number)) for number in (1, 612)]


def test_of_frames_shipped_twice_the_tiffs_are_taken(tmp_path):
    both = [
        f"{kind}/{part}/{n}.{kind.lower()}"
        for kind in ("PNG", "TIF")
        for part in ("Original", "Ground Truth")
        for n in (1, 2)
    ]
    dataset = open_dataset(touch(tmp_path, [*both, "metadata.csv"]))
    assert ids(dataset) == ["1", "2"]
    assert all(case.images[0].endswith(".tif") for case in dataset.cases)


def test_images_outside_the_nested_folders_are_named(tmp_path):
    touch(tmp_path, ["set/Original/1.tif", "set/Ground Truth/1.tif", "more/2.tif"])
    error = refusal(tmp_path)
    assert error.code == "CASES_UNPAIRED"
    assert "more/2.tif" in error.problem


def test_nested_folders_with_different_frames_are_not_chosen_between(tmp_path):
    touch(tmp_path, [f"{part}/{kind}/{part}.png" for part in ("train", "test") for kind in ("images", "masks")])
    assert refusal(tmp_path).code == "NO_CASES"


def test_lung_slices_of_one_id_are_one_patient(tmp_path):
    names = [f"2d_{part}/ID_000{p}_Z_014{z}.tif" for part in ("images", "masks") for p in (0, 1) for z in (2, 3)]
    dataset = open_dataset(touch(tmp_path, [*names, "3d_images/IMG_0002.nii.gz", "lung_stats.csv"]))
    assert [case.group for case in dataset.cases] == ["ID_0000", "ID_0000", "ID_0001", "ID_0001"]
