"""Folders that a layout refuses are looked at image by image, and the refusal stands among the findings."""

import json

import numpy as np
import pytest
from PIL import Image

import medseg
from medseg.cli import main
from medseg.errors import DatasetError
from tests.checking.conftest import CASES, codes, image_of, mask_of, save


def errors_of(report):
    return {(each.case, each.code) for each in report.findings if each.severity == "error"}


def second_mask_folder(folder):
    for number in range(2):
        save(image_of(number), folder / "images" / f"c{number}.nii.gz")
        save(mask_of(number), folder / "labels" / f"c{number}.nii.gz")
        save(mask_of(number), folder / "masks" / f"c{number}.nii.gz")


def nested_twice(folder):
    second_mask_folder(folder / "site")


def hearts_without_a_word_on_frames(folder):
    cine = np.stack([image_of(1), image_of(2)], axis=-1)
    save(cine, folder / "patient001" / "patient001_4d.nii.gz")


def stacks_of_other_lengths(folder):
    for name, count in (("train-volume", 3), ("train-labels", 2)):
        pages = np.random.default_rng(count).integers(0, 256, (count, 20, 30), dtype=np.uint8)
        first, *rest = [Image.fromarray(page) for page in pages]
        first.save(folder / f"{name}.tif", save_all=True, append_images=rest)


def too_few_channels(folder):
    for name in ("a_0000", "a_0001", "b_0000"):
        save(image_of(len(name)), folder / f"{name}.nii.gz")


@pytest.mark.parametrize(
    ("fill", "case", "code", "count"),
    [
        (second_mask_folder, "", "MASK_FOLDERS_SEVERAL", 6),
        (nested_twice, "site", "MASK_FOLDERS_SEVERAL", 6),
        (hearts_without_a_word_on_frames, "", "FRAMES_UNKNOWN", 1),
        (stacks_of_other_lengths, "train-volume.tif", "PAGES_DIFFER", 2),
        (too_few_channels, "", "CHANNELS_MISSING", 3),
    ],
)
def test_a_layout_that_cannot_be_made_out_is_an_error_at_its_place_and_the_images_are_looked_at(
    fill, case, code, count, tmp_path, capsys
):
    fill(tmp_path)
    report = medseg.check(tmp_path)
    assert errors_of(report) == {(case, code)}
    assert (report.exit_code, report.summary.cases) == (1, count)
    assert report.summary.shapes
    assert str(tmp_path) not in json.dumps(report.to_record())
    assert main(["check", str(tmp_path), "--quiet"]) == 1
    assert code in capsys.readouterr().out


def test_an_unreadable_image_is_found_beside_what_the_layout_lacks(tmp_path):
    second_mask_folder(tmp_path)
    (tmp_path / "images" / "c0.nii.gz").write_bytes(b"no image")
    assert errors_of(medseg.check(tmp_path)) == {("", "MASK_FOLDERS_SEVERAL"), ("images/c0", "IMAGE_HEADER")}


def test_a_wrong_description_beside_a_layout_that_is_wrong_too_leaves_both_errors(tmp_path):
    second_mask_folder(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    assert errors_of(medseg.check(tmp_path)) == {("dataset.json", "DESCRIPTION_INVALID"), ("", "MASK_FOLDERS_SEVERAL")}


def test_a_wrong_description_beside_images_alone_is_told_and_they_are_looked_at(tmp_path):
    save(image_of(1), tmp_path / "scan.nii.gz")
    (tmp_path / "dataset.csv").write_text("no,columns\n1,2\n")
    report = medseg.check(tmp_path)
    assert errors_of(report) == {("dataset.csv", "DESCRIPTION_INVALID")}
    assert report.summary.cases == 1


def test_a_name_that_could_be_no_file_of_results_is_told_and_the_others_are_looked_at(tmp_path):
    save(image_of(1), tmp_path / "scan.nii.gz")
    save(image_of(2), tmp_path / "scan\n2.nii.gz")
    report = medseg.check(tmp_path)
    assert [code for _, code in errors_of(report)] == ["CASE_ID_INVALID"]
    assert report.summary.cases == 1


def empty_folders(folder):
    for name in ("images", "labels", "masks"):
        (folder / name).mkdir()


def only_a_wrong_description(folder):
    (folder / "dataset.json").write_text("{")


@pytest.mark.parametrize("fill", [lambda folder: None, empty_folders, only_a_wrong_description])
def test_where_there_is_no_image_at_all_the_exit_code_is_3(fill, tmp_path, capsys):
    fill(tmp_path)
    with pytest.raises(DatasetError):
        medseg.check(tmp_path)
    assert main(["check", str(tmp_path), "--quiet"]) == 3


def test_a_description_that_is_named_does_not_stand_for_all_that_lies_beside_it(tmp_path):
    save(image_of(1), tmp_path / "scan.nii.gz")
    (tmp_path / "mine.csv").write_text("no,columns\n1,2\n")
    with pytest.raises(DatasetError, match="DESCRIPTION_INVALID"):
        medseg.check(tmp_path / "mine.csv")


def test_images_of_a_list_that_are_there_are_looked_at_beside_those_that_are_missing(tmp_path):
    save(image_of(1), tmp_path / "one" / "scan.nii.gz")
    (tmp_path / "list.txt").write_text("# two\none/scan.nii.gz\none/none.nii.gz\n")
    report = medseg.check(tmp_path / "list.txt")
    assert errors_of(report) == {("list.txt", "LIST_INVALID")}
    assert report.summary.cases == 1
    (tmp_path / "list.txt").write_text("one/none.nii.gz\n")
    with pytest.raises(DatasetError, match="LIST_INVALID"):
        medseg.check(tmp_path / "list.txt")


def test_a_described_data_set_is_opened_as_before(scans):
    assert medseg.check(scans.root).summary.layout == "decathlon"
    assert medseg.check(scans.root / "dataset.json").summary.cases == CASES


def test_a_wrong_description_is_told_and_the_layout_read_instead(scans):
    (scans.root / "dataset.json").write_text("{")
    report = scans.check()
    assert codes(report) == {"DESCRIPTION_INVALID"}
    assert report.summary.cases == CASES


def test_a_table_without_a_mask_and_with_a_missing_file_is_read_on(scans):
    scans.undescribe()
    table = scans.root / "dataset.csv"
    table.write_text(
        "image,label\nimages/c0.nii.gz,labels/c0.nii.gz\nimages/c1.nii.gz,\nimages/none.nii.gz,labels/c2.nii.gz\n"
    )
    assert [(each.case, each.code) for each in scans.check().findings] == [
        ("c1", "MASK_MISSING"),
        ("none", "IMAGE_NOT_FOUND"),
    ]
