"""Small copies of LGG, CVC-ClinicDB and the lung CT slices as they are shipped, which the general layouts read."""

import pytest

from medseg.data.cases import open_dataset
from medseg.errors import DatasetError


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0")
    return root


def ids(dataset):
    return [case.id for case in dataset.cases]


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
