"""Small data sets in the trees that their publishers ship: ACDC, BraTS and the chest X-rays."""

import numpy as np
import pytest
from PIL import Image

from medseg.data.cases import open_dataset, open_images
from medseg.data.read import read, read_mask
from medseg.data.write import write
from medseg.errors import DatasetError

INFO = "ED: 1\nES: 3\nGroup: DCM\nHeight: 184.0\nNbFrame: 4\nWeight: 95.0\n"
FRAMES = np.arange(4 * 5 * 6 * 3, dtype=np.int16).reshape(4, 5, 6, 3)
AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0")
    return root


def ids(cases):
    return [case.id for case in cases]


def refused(code, path, opened=open_dataset, **options):
    with pytest.raises(DatasetError) as caught:
        opened(path, **options)
    assert caught.value.code == code
    return caught.value


def patient(root, name, info=INFO, masks=(1, 3), frames=()):
    """One of ACDC's folders: the cine, and masks and frames of the numbers given."""
    place = root / name
    write(FRAMES, AFFINE, place / f"{name}_4d.nii.gz", has_channels=True)
    for number in masks:
        write((FRAMES[number - 1] > 9).astype(np.uint8), AFFINE, place / f"{name}_frame{number:02d}_gt.nii.gz")
    for number in frames:
        write(FRAMES[number - 1], AFFINE, place / f"{name}_frame{number:02d}.nii.gz")
    if info is not None:
        (place / "Info.cfg").write_text(info)
    return root


@pytest.mark.parametrize("below", ["", "training", "database/training"])
def test_where_only_the_cine_is_there_its_frames_are_those_that_info_cfg_names(tmp_path, below):
    patient(tmp_path / below, "patient001")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, ids(dataset.cases)) == ("acdc", ["patient001_frame01", "patient001_frame03"])
    assert {case.group for case in dataset.cases} == {"patient001"}
    for case, frame in zip(dataset.cases, (0, 2), strict=True):
        np.testing.assert_array_equal(read(case.images[0]).array, FRAMES[frame])
        np.testing.assert_array_equal(read_mask(case.label).array, FRAMES[frame] > 9)


def test_a_cine_gives_the_ids_and_voxels_of_the_frames_stored_apart(tmp_path):
    cine = open_dataset(patient(tmp_path / "cine", "patient001")).cases
    apart = open_dataset(patient(tmp_path / "apart", "patient001", frames=(1, 3))).cases
    assert ids(cine) == ids(apart)
    for one, other in zip(cine, apart, strict=True):
        assert "#t" in one.images[0]
        assert "#t" not in other.images[0]
        np.testing.assert_array_equal(read(one.images[0]).array, read(other.images[0]).array)
        np.testing.assert_allclose(read(one.images[0]).affine, read(other.images[0]).affine)


def test_patients_in_training_and_testing_keep_one_id_each(tmp_path):
    patient(tmp_path / "training", "patient001")
    patient(tmp_path / "testing", "patient101", frames=(1, 3))
    assert ids(open_dataset(tmp_path).cases) == [f"patient{p}_frame0{f}" for p in ("001", "101") for f in (1, 3)]


@pytest.mark.parametrize("opened", [open_dataset, open_images])
def test_all_cines_without_usable_information_are_named_at_once(tmp_path, opened):
    patient(tmp_path, "patient001")
    patient(tmp_path, "patient002", info=None)
    patient(tmp_path, "patient003", info="ED: 1\nGroup: NOR\n")
    patient(tmp_path, "patient004", info="ED: one\nES: two\n")
    patient(tmp_path, "patient005", info="ED: 1\nES: 9\nNbFrame: 4\n")
    patient(tmp_path, "patient006", info="ED: 0\nES: 2\n")
    patient(tmp_path, "patient007", info=None, frames=(1, 3))
    problem = refused("FRAMES_UNKNOWN", tmp_path, opened).problem
    assert {f"patient00{n}" in problem for n in (2, 3, 4, 5, 6)} == {True}
    assert "patient001" not in problem
    assert "patient007" not in problem
    assert "no ES" in problem
    assert "no ED and no ES" in problem


def test_a_mask_of_a_frame_that_info_cfg_does_not_name_is_left_over(tmp_path):
    problem = refused("CASES_UNPAIRED", patient(tmp_path, "patient001", masks=(1, 2))).problem
    assert "patient001_frame02_gt.nii.gz has no image" in problem
    assert "patient001_frame03 has no mask" in problem


def test_end_diastole_that_is_end_systole_is_one_case(tmp_path):
    assert ids(open_dataset(patient(tmp_path, "patient001", info="ED: 2\nES: 2\n", masks=(2,))).cases) == [
        "patient001_frame02"
    ]


def test_the_two_frames_of_a_cine_without_masks_are_predicted(tmp_path):
    patient(tmp_path, "patient101", masks=())
    cases = open_images(tmp_path, channels=1)
    assert ids(cases) == ["patient101_frame01", "patient101_frame03"]
    np.testing.assert_array_equal(read(cases[1].images[0]).array, FRAMES[2])
    assert "patient101" in refused("CASES_UNPAIRED", tmp_path).problem


BRATS = [
    f"BraTS20_Training_00{c}/BraTS20_Training_00{c}_{m}.nii" for c in (1, 2) for m in ("flair", "t1", "t1ce", "t2")
]
BRATS_MASKS = [f"BraTS20_Training_00{c}/BraTS20_Training_00{c}_seg.nii" for c in (1, 2)]


def modalities(case):
    return [image.rsplit("_", 1)[1].partition(".")[0] for image in case.images]


def test_brats2020_opens_with_its_tables_beside_and_names_its_labels(tmp_path):
    touch(tmp_path, *BRATS, *BRATS_MASKS, "name_mapping.csv", "survival_info.csv")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, ids(dataset.cases)) == ("brats", ["BraTS20_Training_001", "BraTS20_Training_002"])
    assert dataset.channels == ("flair", "t1", "t1ce", "t2")
    assert sorted(dataset.labels.names) == [0, 1, 2, 4]


def test_the_mask_that_brats2020_ships_under_another_name_is_found(tmp_path):
    touch(tmp_path, *BRATS, BRATS_MASKS[0], "BraTS20_Training_002/W39_1998.09.19_Segm.nii")
    assert open_dataset(tmp_path).cases[1].label.endswith("W39_1998.09.19_Segm.nii")


def test_newer_brats_names_its_other_values_and_older_brats_none(tmp_path):
    newer = ("t1n", "t1c", "t2w", "t2f", "seg")
    touch(tmp_path / "newer", *(f"BraTS-GLI-00001-000/BraTS-GLI-00001-000-{m}.nii.gz" for m in newer))
    touch(tmp_path / "older", "a/Flair.nii.gz", "a/T1c.nii.gz", "a/OTMultiClass.nii.gz")
    assert sorted(open_dataset(tmp_path / "newer").labels.names) == [0, 1, 2, 3]
    assert open_dataset(tmp_path / "older").labels.names == {}


def test_all_cases_that_lack_a_modality_are_named_at_once_with_it(tmp_path):
    names = [*BRATS, *BRATS_MASKS, *(f"BraTS20_Training_003/x_{m}.nii" for m in ("flair", "seg"))]
    names.remove("BraTS20_Training_001/BraTS20_Training_001_t1ce.nii")
    touch(tmp_path, *names)
    for opened in (open_dataset, open_images):
        problem = refused("CHANNELS_MISSING", tmp_path, opened).problem
        assert "BraTS20_Training_001 lacks t1ce" in problem
        assert "BraTS20_Training_003 lacks t1, t1ce, t2" in problem
        assert "BraTS20_Training_002" not in problem


def test_missing_modalities_and_missing_masks_are_named_together(tmp_path):
    names = [*BRATS, BRATS_MASKS[1]]
    names.remove("BraTS20_Training_002/BraTS20_Training_002_t2.nii")
    problem = refused("CASES_UNPAIRED", touch(tmp_path, *names)).problem
    assert "BraTS20_Training_001 has no mask" in problem
    assert "BraTS20_Training_002 lacks t2" in problem


def test_brats_cases_without_masks_are_predicted_by_the_names_of_their_channels(tmp_path):
    touch(tmp_path, *BRATS)
    cases = open_images(tmp_path, channels=["T1Gd", "FLAIR"])
    assert ids(cases) == ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert modalities(cases[0]) == ["t1ce", "flair"]
    refused("NO_CASES", tmp_path)


def test_only_the_wanted_channels_of_a_brats_set_are_opened(tmp_path):
    touch(tmp_path, *BRATS, *BRATS_MASKS)
    assert [modalities(case) for case in open_images(tmp_path, ("flair", "t1ce"))] == [["flair", "t1ce"]] * 2
    assert [modalities(case) for case in open_images(tmp_path, 4)] == [["flair", "t1", "t1ce", "t2"]] * 2


def picture(path, shape=(6, 5), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def montgomery(root, name="MCUCXR_0001_0", halves=("left", "right")):
    picture(root / f"MontgomerySet/CXR_png/{name}.png")
    (root / "MontgomerySet/ClinicalReadings").mkdir(exist_ok=True)
    (root / f"MontgomerySet/ClinicalReadings/{name}.txt").write_text("Patient's Sex: F")
    for half, at in zip(halves, (slice(0, 2), slice(3, 5)), strict=False):
        mask = np.zeros((6, 5), np.uint8)
        mask[:, at] = 255
        path = root / f"MontgomerySet/ManualMask/{half}Mask/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


@pytest.mark.parametrize("below", ["", "MontgomerySet"])
def test_the_left_and_right_masks_of_montgomery_are_united(tmp_path, below):
    dataset = open_dataset(montgomery(tmp_path) / below)
    (case,) = dataset.cases
    assert (dataset.layout, case.id, len(case.label)) == ("chest-x-rays", "MCUCXR_0001_0", 2)
    np.testing.assert_array_equal(read_mask(case.label, [0, 1]).array[:, 0], [1, 1, 0, 1, 1])
    assert ids(open_images(tmp_path)) == ["MCUCXR_0001_0"]


def test_a_half_without_the_other_is_refused(tmp_path):
    montgomery(tmp_path, "MCUCXR_0002_0", halves=("left",))
    montgomery(tmp_path, "MCUCXR_0003_0")
    problem = refused("CASES_UNPAIRED", tmp_path).problem
    assert "MCUCXR_0002_0" in problem
    assert "MCUCXR_0003_0" not in problem


def test_montgomery_is_complete_so_an_image_without_mask_is_refused(tmp_path):
    montgomery(tmp_path)
    montgomery(tmp_path, "MCUCXR_0002_0", halves=())
    montgomery(tmp_path, "MCUCXR_0003_0", halves=())
    problem = refused("CASES_UNPAIRED", tmp_path).problem
    assert "MCUCXR_0002_0" in problem
    assert "MCUCXR_0003_0" in problem


@pytest.mark.parametrize("images", ["img", "ChinaSet_AllFiles/CXR_png"])
def test_shenzhen_images_that_were_never_drawn_are_told_apart_and_predicted(tmp_path, images):
    touch(tmp_path, *(f"{images}/CHNCXR_000{n}_0.png" for n in (1, 2, 3)), "mask/CHNCXR_0001_0_mask.png")
    dataset = open_dataset(tmp_path)
    assert ids(dataset.cases) == ["CHNCXR_0001_0"]
    assert dataset.unlabelled == ("CHNCXR_0002_0", "CHNCXR_0003_0")
    assert len(open_images(tmp_path)) == 3


def test_both_sets_of_x_rays_open_together_as_on_kaggle(tmp_path):
    names = ["CXR_png/MCUCXR_0001_0.png", "CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0009_1.png"]
    names += ["masks/MCUCXR_0001_0.png", "masks/CHNCXR_0001_0_mask.png", "test/CHNCXR_0009_1.png"]
    dataset = open_dataset(touch(tmp_path, *(f"Lung Segmentation/{name}" for name in names)))
    assert ids(dataset.cases) == ["CHNCXR_0001_0", "MCUCXR_0001_0"]
    assert dataset.unlabelled == ("CHNCXR_0009_1",)


def test_what_does_not_belong_to_the_x_rays_is_refused(tmp_path):
    touch(montgomery(tmp_path), "MontgomerySet/CXR_png/other.png", "MontgomerySet/more/MCUCXR_0001_0.png")
    problem = refused("CASES_UNPAIRED", tmp_path).problem
    assert "other.png" in problem
    assert "MCUCXR_0001_0 is there 2 times" in problem


def test_x_rays_without_any_mask_are_only_predicted(tmp_path):
    touch(tmp_path, "CXR_png/MCUCXR_0001_0.png", "CXR_png/MCUCXR_0002_0.png")
    assert ids(open_images(tmp_path)) == ["CXR_png/MCUCXR_0001_0", "CXR_png/MCUCXR_0002_0"]
    refused("NO_CASES", tmp_path)
