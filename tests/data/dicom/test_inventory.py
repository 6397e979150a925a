"""The inventory of a folder: every series with its grid, what else lies there, and what is wrong."""

import os

from medseg.data.dicom.series import FolderInventory, read_dicom, take_inventory
from tests.dicom_folders import (
    RTSTRUCT_CLASS,
    SR_CLASS,
    TRUTH,
    add_series,
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


def codes(findings):
    return {finding.code for finding in findings}


def test_an_empty_folder_holds_nothing(tmp_path):
    assert take_inventory(tmp_path) == FolderInventory(tmp_path)


def test_a_series_is_told_with_its_grid_and_nothing_about_the_patient(tmp_path):
    edited(PatientName="Canary^Bird", PatientID="MRN1", SeriesDescription="Canary", StudyDate="20200101")(tmp_path)
    found = take_inventory(tmp_path)
    (series,) = found.series
    assert (series.uid, series.modality, series.number) == (uid("series"), "CT", 3)
    assert (series.shape, series.spacing_mm) == (TRUTH.shape, (1.5, 2.0, 3.0))
    assert len(series.files) == TRUTH.shape[2]
    assert series.is_readable
    assert not {"Canary", "MRN1", "20200101"} & set(repr(found).replace("^", " ").split())
    assert "MRN1" not in repr(found)


def test_a_picture_without_a_position_has_two_axes(tmp_path):
    save(edit(slices()[0], Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None), tmp_path / "x.dcm")
    (series,) = take_inventory(tmp_path).series
    assert (series.shape, series.spacing_mm) == (TRUTH.shape[:2], (1.5, 2.0))


def test_series_at_any_depth_are_found_and_objects_sorted_by_kind(tmp_path):
    save_all(slices(), tmp_path / "a" / "b")
    add_series(tmp_path / "c", "other", 7)
    save(image_free(SR_CLASS, "SR"), tmp_path / "sr.dcm")
    save(image_free(RTSTRUCT_CLASS, "RTSTRUCT"), tmp_path / "a" / "rt")
    (tmp_path / "c" / "notes.txt").write_text("notes")
    found = take_inventory(tmp_path)
    assert sorted(series.number for series in found.series) == [3, 7]
    assert found.other == {"RTSTRUCT": (tmp_path / "a" / "rt",), "SR": (tmp_path / "sr.dcm",)}
    assert found.junk == (tmp_path / "c" / "notes.txt",)


def test_a_series_whose_files_lie_in_several_folders_is_one(tmp_path):
    for number, data in enumerate(slices()):
        save(data, tmp_path / f"d{number % 2}" / f"i{number}")
    (series,) = take_inventory(tmp_path).series
    assert series.shape == TRUTH.shape


def test_what_is_wrong_with_several_files_is_one_finding(tmp_path):
    edited(PixelSpacing=None)(tmp_path)
    (series,) = take_inventory(tmp_path).series
    (finding,) = [each for each in series.findings if each.code == "DICOM_GEOMETRY"]
    assert finding.case == "s1.dcm"
    assert "5 more" in finding.problem
    assert not series.is_readable
    assert series.shape is None


def test_a_damaged_file_does_not_hide_the_others(tmp_path):
    save_all(slices(), tmp_path / "good")
    save_all(slices(), tmp_path / "bad")
    (tmp_path / "bad" / "s2.dcm").write_bytes((tmp_path / "bad" / "s2.dcm").read_bytes()[:300])
    found = take_inventory(tmp_path)
    assert "bad/s2.dcm" in {finding.case for finding in found.findings if finding.severity == "error"}
    assert found.series


def test_files_that_may_not_be_read_and_links_to_nowhere_are_no_crash(tmp_path):
    save_all(slices(), tmp_path)
    (tmp_path / "link.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(take_inventory(tmp_path).series) == 1


def test_phases_are_told_apart_with_their_values(tmp_path):
    twice("TemporalPositionIdentifier", 2, 1)(tmp_path)
    (series,) = take_inventory(tmp_path).series
    (finding,) = [each for each in series.findings if each.severity == "error"]
    assert finding.code == "DICOM_SEVERAL_PHASES"
    assert "TemporalPositionIdentifier (1; 2)" in finding.problem


def test_free_text_that_tells_images_apart_is_not_repeated(tmp_path):
    twice("ConvolutionKernel", "Canary^Bird", "B30")(tmp_path)
    (series,) = take_inventory(tmp_path).series
    assert not any("Canary" in finding.problem for finding in series.findings)


def test_what_is_only_worth_knowing_is_no_note_of_the_reader(tmp_path):
    numbered("RescaleSlope", [1, 1, 2, 2, 1, 1])(tmp_path)
    (series,) = take_inventory(tmp_path).series
    assert [(finding.code, finding.severity) for finding in series.findings] == [("DICOM_RESCALE_PER_SLICE", "info")]
    assert read_dicom(tmp_path).notes == ()


def test_two_patients_are_told(tmp_path):
    save_all(slices(), tmp_path)
    add_series(tmp_path / "b", "other", 4, PatientID="P2")
    assert "DICOM_SEVERAL_PATIENTS" in codes(take_inventory(tmp_path).findings)


def test_a_directory_is_neither_junk_nor_an_object(tmp_path):
    save_all(slices(), tmp_path / "ST0")
    save(directory("ST0", "S1"), tmp_path / "DICOMDIR")
    found = take_inventory(tmp_path)
    assert (found.other, found.junk, found.findings) == ({}, (), ())
