"""The inventory of a folder: every series with its grid, what else lies there, and what is wrong."""

import os
import shutil

import pytest
from pydicom import dcmread

from medseg.data.dicom.inventory import FolderInventory, inventory
from medseg.data.dicom.series import read_dicom
from medseg.data.read import read
from medseg.errors import ImageError
from tests.dicom_folders import (
    RTSTRUCT_CLASS,
    SR_CLASS,
    TRUTH,
    directory,
    edit,
    edited,
    image_free,
    numbered,
    save,
    save_all,
    slices,
    twice,
    uid,
)


def add_series(folder, name, number, **values):
    own = {"SeriesInstanceUID": uid(name), "SeriesNumber": number, **values}
    save_all([edit(data, SOPInstanceUID=uid(f"{name} {n}"), **own) for n, data in enumerate(slices())], folder)


def codes(findings):
    return {finding.code for finding in findings}


def test_an_empty_folder_holds_nothing(tmp_path):
    assert inventory(tmp_path) == FolderInventory(tmp_path)


def test_a_series_is_told_with_its_grid_and_nothing_about_the_patient(tmp_path):
    edited(PatientName="Canary^Bird", PatientID="MRN1", SeriesDescription="Canary", StudyDate="20200101")(tmp_path)
    found = inventory(tmp_path)
    (series,) = found.series
    assert (series.uid, series.modality, series.number) == (uid("series"), "CT", 3)
    assert (series.shape, series.spacing_mm) == (TRUTH.shape, (1.5, 2.0, 3.0))
    assert len(series.files) == TRUTH.shape[2]
    assert series.is_readable
    assert not {"Canary", "MRN1", "20200101"} & set(repr(found).replace("^", " ").split())
    assert "MRN1" not in repr(found)


def test_a_picture_without_a_position_has_two_axes(tmp_path):
    save(edit(slices()[0], Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None), tmp_path / "x.dcm")
    (series,) = inventory(tmp_path).series
    assert (series.shape, series.spacing_mm) == (TRUTH.shape[:2], (1.5, 2.0))


def test_series_at_any_depth_are_found_and_objects_sorted_by_kind(tmp_path):
    save_all(slices(), tmp_path / "a" / "b")
    add_series(tmp_path / "c", "other", 7)
    save(image_free(SR_CLASS, "SR"), tmp_path / "sr.dcm")
    save(image_free(RTSTRUCT_CLASS, "RTSTRUCT"), tmp_path / "a" / "rt")
    (tmp_path / "c" / "notes.txt").write_text("notes")
    found = inventory(tmp_path)
    assert sorted(series.number for series in found.series) == [3, 7]
    assert found.other == {"RTSTRUCT": (tmp_path / "a" / "rt",), "SR": (tmp_path / "sr.dcm",)}
    assert found.junk == (tmp_path / "c" / "notes.txt",)


def test_a_series_whose_files_lie_in_several_folders_is_one(tmp_path):
    for number, data in enumerate(slices()):
        save(data, tmp_path / f"d{number % 2}" / f"i{number}")
    (series,) = inventory(tmp_path).series
    assert series.shape == TRUTH.shape


def test_what_is_wrong_with_several_files_is_one_finding(tmp_path):
    edited(PixelSpacing=None)(tmp_path)
    (series,) = inventory(tmp_path).series
    (finding,) = [each for each in series.findings if each.code == "DICOM_GEOMETRY"]
    assert finding.where == "s1.dcm"
    assert "5 more" in finding.what
    assert not series.is_readable
    assert series.shape is None


def test_a_damaged_file_does_not_hide_the_others(tmp_path):
    save_all(slices(), tmp_path / "good")
    save_all(slices(), tmp_path / "bad")
    (tmp_path / "bad" / "s2.dcm").write_bytes((tmp_path / "bad" / "s2.dcm").read_bytes()[:300])
    found = inventory(tmp_path)
    assert "bad/s2.dcm" in {finding.where for finding in found.findings if finding.severity == "error"}
    assert found.series


def test_files_that_may_not_be_read_and_links_to_nowhere_are_no_crash(tmp_path):
    save_all(slices(), tmp_path)
    (tmp_path / "link.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(inventory(tmp_path).series) == 1


def test_phases_are_told_apart_with_their_values(tmp_path):
    twice("TemporalPositionIdentifier", 2, 1)(tmp_path)
    (series,) = inventory(tmp_path).series
    (finding,) = [each for each in series.findings if each.severity == "error"]
    assert finding.code == "DICOM_SEVERAL_PHASES"
    assert "TemporalPositionIdentifier (1; 2)" in finding.what


def test_free_text_that_tells_images_apart_is_not_repeated(tmp_path):
    twice("ConvolutionKernel", "Canary^Bird", "B30")(tmp_path)
    (series,) = inventory(tmp_path).series
    assert not any("Canary" in finding.what for finding in series.findings)


def test_what_is_only_worth_knowing_is_no_note_of_the_reader(tmp_path):
    numbered("RescaleSlope", [1, 1, 2, 2, 1, 1])(tmp_path)
    (series,) = inventory(tmp_path).series
    assert [(finding.code, finding.severity) for finding in series.findings] == [("DICOM_RESCALE_PER_SLICE", "info")]
    assert read_dicom(tmp_path).notes == ()


def test_two_patients_are_told(tmp_path):
    save_all(slices(), tmp_path)
    add_series(tmp_path / "b", "other", 4, PatientID="P2")
    assert "DICOM_SEVERAL_PATIENTS" in codes(inventory(tmp_path).findings)


class TestChoosing:
    @pytest.fixture
    def mixed(self, tmp_path):
        """A CT of number 3 and an MR of number 12 in one folder."""
        save_all(slices(), tmp_path / "x")
        add_series(tmp_path / "y", "other", 12, Modality="MR", RescaleIntercept=0)
        for path in (tmp_path / "y").iterdir():
            shutil.move(path, tmp_path / "x" / f"o{path.name}")
        return tmp_path / "x"

    def test_the_series_are_listed_with_what_picks_one(self, mixed):
        with pytest.raises(ImageError) as caught:
            read_dicom(mixed)
        assert caught.value.code == "DICOM_SEVERAL_SERIES"
        for piece in ("number 3", "number 12", "CT 36×34", "MR 36×34", "6 slices", uid("series")[-12:]):
            assert piece in caught.value.problem
        assert "--series" in caught.value.remedy

    @pytest.mark.parametrize("wanted", ["12", uid("other")[-6:], uid("other")])
    def test_a_number_or_an_ending_of_the_uid_picks_a_series(self, mixed, wanted):
        assert read_dicom(mixed, wanted).array.max() == TRUTH.max() + 1024
        assert read(f"{mixed}#series={wanted}").array.max() == TRUTH.max() + 1024

    @pytest.mark.parametrize("wanted", ["4", "99999999", "."])
    def test_what_fits_no_series_or_several_is_refused(self, mixed, wanted):
        with pytest.raises(ImageError) as caught:
            read(f"{mixed}#series={wanted}")
        assert caught.value.code == "DICOM_SERIES_NOT_FOUND"

    def test_a_number_that_two_series_have_is_refused(self, mixed):
        for path in mixed.iterdir():
            save(edit(dcmread(path), SeriesNumber=3), path)
        with pytest.raises(ImageError) as caught:
            read_dicom(mixed, "3")
        assert caught.value.code == "DICOM_SERIES_NOT_FOUND"

    def test_one_series_may_be_named_too(self, tmp_path):
        save_all(slices(), tmp_path)
        assert read(f"{tmp_path}#series=3").array.shape == TRUTH.shape

    def test_only_dicom_has_series(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(b"")
        with pytest.raises(ImageError) as caught:
            read(f"{tmp_path / 'a.nii.gz'}#series=3")
        assert caught.value.code == "DICOM_SERIES_NOT_FOUND"


def test_a_directory_is_neither_junk_nor_an_object(tmp_path):
    save_all(slices(), tmp_path / "ST0")
    save(directory("ST0", "S1"), tmp_path / "DICOMDIR")
    found = inventory(tmp_path)
    assert (found.other, found.junk, found.findings) == ({}, (), ())
