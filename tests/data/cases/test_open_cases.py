import json

import numpy as np
import pytest

from medseg.data.cases import Case, datalist, open_dataset, open_images
from medseg.errors import DatasetError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0")
    return root


def describe(root, content):
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def decathlon(root, pairs, **more):
    return describe(root, {"training": [{"image": i, "label": m} for i, m in pairs], **more})


def refused(code, path, opened=open_dataset):
    with pytest.raises(DatasetError) as caught:
        opened(path)
    assert caught.value.code == code
    return caught.value


def test_a_path_that_is_not_there_is_refused(tmp_path):
    refused("NOT_FOUND", tmp_path / "nothing")
    refused("NOT_FOUND", tmp_path / "nothing", open_images)


@pytest.mark.parametrize("opened", [open_dataset, open_images])
def test_a_folder_without_cases_is_refused_with_what_it_holds(tmp_path, opened):
    error = refused("NO_CASES", touch(tmp_path, "notes.txt", "more/table.xlsx"), opened)
    assert "1 × .txt" in error.problem
    assert "more/table.xlsx" in error.problem
    assert "images/NAME.png and masks/NAME.png" in error.remedy


@pytest.mark.parametrize("opened", [open_dataset, open_images])
def test_an_empty_folder_is_refused(tmp_path, opened):
    assert "empty" in refused("NO_CASES", tmp_path, opened).problem


def test_the_datalist_has_monais_keys():
    cases = [Case("a", ("a.nii",), "m.nii", "a"), Case("b", ("b0.nii", "b1.nii"), None, "b")]
    assert datalist(cases) == [
        {"image": "a.nii", "label": "m.nii", "case_id": "a"},
        {"image": ["b0.nii", "b1.nii"], "case_id": "b"},
    ]
    assert datalist([Case("c", ("c.png",), ("l.png", "r.png"), "c")])[0]["label"] == ["l.png", "r.png"]
    assert datalist([]) == []


def test_each_image_in_a_tree_is_a_case_named_by_its_path(tmp_path):
    touch(tmp_path, "x/a.nii.gz", "x/b.nrrd", "y/a.nii.gz", "c.png", ".hidden.nii", "readme.md")
    cases = open_images(tmp_path)
    assert [case.id for case in cases] == ["c", "x/a", "x/b", "y/a"]
    assert all(case.label is None for case in cases)
    assert cases[1].images == (str(tmp_path / "x/a.nii.gz"),)


def test_images_that_differ_in_suffix_keep_it(tmp_path):
    touch(tmp_path, "a.nii", "a.nii.gz", "b.nii")
    assert [case.id for case in open_images(tmp_path)] == ["a.nii", "a.nii.gz", "b"]


def test_a_single_file_is_a_case(tmp_path):
    touch(tmp_path, "a_0000.nii.gz")
    assert open_images(tmp_path / "a_0000.nii.gz")[0].id == "a"


def test_numbered_files_are_the_channels_of_a_case(tmp_path):
    touch(tmp_path, *(f"{name}_{channel:04d}.nii.gz" for name in "ab" for channel in range(2)))
    for cases in (open_images(tmp_path), open_images(tmp_path, channels=2)):
        assert [case.id for case in cases] == ["a", "b"]
        assert cases[0].images == tuple(str(tmp_path / f"a_000{channel}.nii.gz") for channel in range(2))


def test_numbered_files_are_cases_where_one_channel_is_wanted(tmp_path):
    touch(tmp_path, "scan_0000.nii", "scan_0001.nii")
    assert [case.id for case in open_images(tmp_path, channels=1)] == ["scan_0000", "scan_0001"]


def test_many_numbered_files_are_slices(tmp_path):
    touch(tmp_path, *(f"slice_{number:04d}.png" for number in range(20)))
    assert len(open_images(tmp_path)) == 20


def test_a_case_that_lacks_a_channel_is_refused_by_name(tmp_path):
    touch(tmp_path, "a_0000.nii", "a_0001.nii", "b_0000.nii")
    assert "b has 1" in refused("CHANNELS_MISSING", tmp_path, open_images).problem


def test_masks_of_a_data_set_are_not_predicted(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a_mask.png")
    assert [case.id for case in open_images(tmp_path)] == ["a", "b"]


def test_the_images_of_a_described_data_set_are_predicted_without_masks(tmp_path):
    touch(tmp_path, "imagesTr/a.nii", "labelsTr/a.nii")
    cases = open_images(decathlon(tmp_path, [("imagesTr/a.nii", "labelsTr/a.nii")]))
    assert [(case.id, case.label) for case in cases] == [("a", None)]


def test_a_list_names_images_anywhere(tmp_path):
    touch(tmp_path, "one/a.nii", "two/deep/a.nii")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/todo.txt").write_text(f"# todo\n../one/a.nii\n\n{tmp_path}/two/deep/a.nii\n")
    cases = open_images(tmp_path / "lists/todo.txt")
    assert [case.id for case in cases] == ["one/a", "two/deep/a"]
    assert cases[0].images == (str(tmp_path / "one/a.nii"),)


@pytest.mark.parametrize("text", ["", "# nothing\n", "nowhere.nii\n", "\udcff"])
def test_a_list_without_images_is_refused(tmp_path, text):
    (tmp_path / "todo.txt").write_text(text, errors="surrogateescape")
    refused("LIST_INVALID", tmp_path / "todo.txt", open_images)


def test_a_list_that_names_an_image_twice_is_refused(tmp_path):
    (touch(tmp_path, "a.nii") / "todo.txt").write_text("a.nii\n./a.nii\n")
    refused("CASE_TWICE", tmp_path / "todo.txt", open_images)


def test_a_table_to_predict_needs_no_masks(tmp_path):
    (touch(tmp_path, "a.nii") / "todo.csv").write_text("image,id\na.nii,first\n")
    assert open_images(tmp_path / "todo.csv") == (Case("first", (str(tmp_path / "a.nii"),), None, "first"),)


def test_a_dicom_series_is_one_case_named_by_its_folder(tmp_path, dicom_slices):
    dicom_slices(tmp_path / "scans/p1")
    assert [case.id for case in open_images(tmp_path / "scans/p1")] == ["p1"]
    dicom_slices(tmp_path / "scans/p2.5")
    assert [case.id for case in open_images(tmp_path / "scans")] == ["p1", "p2.5"]


@pytest.fixture
def dicom_slices():
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def written(folder, count=3):
        folder.mkdir(parents=True)
        series = generate_uid()
        for number in range(count):
            slice_ = pydicom.Dataset()
            slice_.file_meta = pydicom.dataset.FileMetaDataset()
            slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            slice_.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            slice_.SOPInstanceUID, slice_.SeriesInstanceUID, slice_.Modality = generate_uid(), series, "CT"
            slice_.Rows = slice_.Columns = 4
            slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
            slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
            slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
            slice_.PixelSpacing, slice_.InstanceNumber = [1, 1], number + 1
            slice_.PixelData = np.zeros((4, 4), np.int16).tobytes()
            slice_.save_as(folder / f"{number}.dcm", enforce_file_format=True)

    return written


def test_a_way_that_goes_up_and_down_leads_to_the_same_cases(tmp_path, monkeypatch):
    for name in ("images/a.nii.gz", "masks/a.nii.gz"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"0")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [case.id for case in open_images("../data/images")] == ["a"]
    assert [case.id for case in open_dataset("../data").cases] == ["a"]


class TestPartsAsCases:
    def test_a_slice_and_a_dicom_series_may_be_named_by_themselves(self, tmp_path):
        touch(tmp_path, "scan.nii.gz", "exam/IM1")
        for name in ("scan.nii.gz#3", "exam#series=8"):
            (case,) = open_images(tmp_path / name)
            assert case.images == (str(tmp_path / name),)

    def test_series_of_one_folder_in_a_table_are_cases_of_different_names(self, tmp_path):
        touch(tmp_path, "exam/IM1")
        (tmp_path / "list.csv").write_text("image\nexam#series=8\nexam#series=1.2.345678\n")
        names = {case.id: case.images[0] for case in open_images(tmp_path / "list.csv")}
        assert sorted(names) == ["exam_series1.2.345678", "exam_series8"]
        assert names["exam_series8"] == str(tmp_path / "exam#series=8")
