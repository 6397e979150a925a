"""DICOM SEG out: what highdicom, dcmqi and dciodvfy make of it, and what is never written."""

import itertools
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medseg.data.dicom import write_seg as writing
from medseg.data.dicom.read_seg import read_own_planes
from medseg.data.dicom.source import read_source
from medseg.data.dicom.write_seg import find_centroids_mm, write_segmentation
from medseg.data.read import read, read_mask
from medseg.data.terminology import Code, Term
from medseg.data.volume import Volume
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import GridError, ImageError, OutputError
from tests.dicom_segs import AUTHOR, blobs, dcmqi_labels, highdicom_labels, meaning

SHAPE = (6, 5, 7)
OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
DIRECTIONS = {"axial": np.eye(3), "sagittal": np.eye(3)[[2, 0, 1]], "coronal": np.eye(3)[[0, 2, 1]], "oblique": OBLIQUE}
ORDERS = ("up", "down", "shuffled")
SPACINGS = ((1.5, 1.5, 3.0), (0.7, 0.9, 0.5))
CASES = list(itertools.product(DIRECTIONS, ORDERS, SPACINGS))


def made_series(folder, direction="axial", order="up", spacing=SPACINGS[0]):
    """A small CT whose files are numbered up or down along the slices, or named without order."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[direction] @ np.diag(spacing)
    affine[:3, 3] = (-31.25, 17.5, 402.75)
    if order == "down":
        affine[:3, 3] += (SHAPE[2] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
    image = np.random.default_rng(3).integers(-1000, 1000, SHAPE).astype(np.int16)
    files = write_ct_series(image, affine, folder, seed_uid="seg")
    if order == "shuffled":
        for file, name in zip(files, np.random.default_rng(4).permutation(SHAPE[2]), strict=True):
            file.rename(folder / f"{name}x.dcm")
    return read_source(folder)


@pytest.fixture
def source(tmp_path):
    return made_series(tmp_path / "ct")


@pytest.fixture
def mask(source):
    return Volume(blobs(SHAPE), source.grid.affine)


def written(mask, source, path, kind="binary", **options):
    write_segmentation(mask, source, path, meaning(3, **options), AUTHOR, kind)
    return path


def codes_of(notes):
    return [note.code for note in notes]


class TestOracles:
    @pytest.mark.parametrize("kind", ["binary", "labelmap"])
    def test_highdicom_and_dcmqi_read_the_same_labels_at_the_same_place(self, tmp_path, kind):
        for number, case in enumerate(CASES if kind == "binary" else CASES[::5]):
            source = made_series(tmp_path / f"ct{number}", *case)
            labels = blobs(SHAPE, seed=number)
            path = written(Volume(labels, source.grid.affine), source, tmp_path / f"{number}.dcm", kind)
            for array, off_mm in (
                highdicom_labels(path, source.grid.affine, SHAPE),
                dcmqi_labels(path, source.grid.affine, SHAPE, tmp_path / "read"),
            ):
                np.testing.assert_array_equal(array, labels, err_msg=str(case))
                assert off_mm <= 1e-4, case

    @pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
    @pytest.mark.parametrize("is_empty", [False, True])
    def test_dciodvfy_finds_no_error(self, mask, source, tmp_path, is_empty):
        labels = mask.array * 0 if is_empty else mask.array
        lung = Term(
            Code("91723000", "SCT", "Anatomical Structure"),
            Code("39607008", "SCT", "Lung"),
            Code("7771000", "SCT", "Left"),
            Code("816094009", "SCT", "Thorax"),
            (200, 100, 50),
        )
        path = written(Volume(labels, mask.affine), source, tmp_path / "seg.dcm", terms={1: lung})
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, timeout=60, check=False)
        assert [line for line in told.stderr.splitlines() if line.startswith("Error")] == []

    def test_the_reader_of_ours_reads_the_same_with_and_without_the_series(self, mask, source, tmp_path):
        path = written(mask, source, tmp_path / "seg.dcm")
        np.testing.assert_array_equal(read_mask(path).array, mask.array)
        alone = read_own_planes(path)
        assert alone.spatial_shape == SHAPE
        np.testing.assert_allclose(find_centroids_mm(alone, [1, 2, 3]), find_centroids_mm(mask, [1, 2, 3]), atol=1e-6)


class TestContent:
    def test_it_refers_to_every_slice_and_to_nothing_else(self, mask, source, tmp_path):
        made = pydicom.dcmread(written(mask, source, tmp_path / "seg.dcm"))
        slices = [file.header for file in source.files]
        assert made.StudyInstanceUID == slices[0].StudyInstanceUID
        assert made.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
        assert made.SeriesInstanceUID != slices[0].SeriesInstanceUID
        referred = made.ReferencedSeriesSequence[0]
        assert referred.SeriesInstanceUID == source.uid
        named = {item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence}
        assert named == {each.SOPInstanceUID for each in slices}

    def test_segments_carry_codes_colour_and_what_made_them(self, mask, source, tmp_path):
        lung = Term(
            Code("91723000", "SCT", "Anatomical Structure"),
            Code("39607008", "SCT", "Lung"),
            Code("24028007", "SCT", "Right"),
            colour=(255, 0, 0),
        )
        path = tmp_path / "seg.dcm"
        notes = write_segmentation(mask, source, path, meaning(3, terms={1: lung}), AUTHOR)
        first, second, _ = pydicom.dcmread(path).SegmentSequence
        assert first.SegmentLabel == "structure 1"
        assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.SCT.AnatomicalStructure.value
        kind = first.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == (codes.SCT.Lung.value, "SCT")
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == codes.SCT.Right.value
        lightness, a, b = np.array(first.RecommendedDisplayCIELabValue) / 65535 * [100, 255, 255] - [0, 128, 128]
        assert np.allclose([lightness, a, b], [53.2, 80.1, 67.2], atol=3)  # CIELab of pure red, D65 or D50
        assert first.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (AUTHOR.name, AUTHOR.version)
        assert "medseg" in algorithm.AlgorithmSource
        assert second.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSEG"
        assert codes_of(notes) == ["SEG_UNCODED"]

    def test_the_patient_is_that_of_the_source_even_where_it_says_little(self, tmp_path, source, mask):
        for file in source.files:
            data_set = pydicom.dcmread(file.path)
            for keyword in ("PatientName", "AccessionNumber", "StudyID", "StudyDate", "PatientSex"):
                delattr(data_set, keyword)
            data_set.SpecificCharacterSet = ""
            data_set.save_as(file.path)
        made = pydicom.dcmread(written(mask, read_source(tmp_path / "ct"), tmp_path / "seg.dcm"))
        assert made.PatientID == "SYNTHETIC"
        assert not made.PatientName

    def test_an_empty_mask_is_one_empty_frame_per_segment_and_is_noted(self, mask, source, tmp_path):
        empty = Volume(np.zeros_like(mask.array), mask.affine)
        for kind, frames in (("binary", 3), ("labelmap", 1)):
            path = tmp_path / f"{kind}.dcm"
            notes = write_segmentation(empty, source, path, meaning(3), AUTHOR, kind)
            assert "SEG_EMPTY" in codes_of(notes)
            assert int(pydicom.dcmread(path).NumberOfFrames) == frames
            assert not read_mask(path).array.any()
            assert read_mask(path).spatial_shape == SHAPE

    def test_a_label_that_is_not_there_is_described_all_the_same(self, mask, source, tmp_path):
        one = Volume((mask.array == 2).astype(np.uint8) * 2, mask.affine)
        made = pydicom.dcmread(written(one, source, tmp_path / "seg.dcm"))
        assert [item.SegmentNumber for item in made.SegmentSequence] == [1, 2, 3]

    def test_slices_of_a_tilted_gantry_keep_their_places(self, tmp_path):
        source = made_series(tmp_path / "ct")
        for index, frame in enumerate(source.frames):
            data_set = pydicom.dcmread(frame.path)
            data_set.ImagePositionPatient[1] += 0.4 * index
            data_set.save_as(frame.path)
        tilted = read_source(tmp_path / "ct")
        labels = blobs(SHAPE)
        path = written(Volume(labels, tilted.grid.affine), tilted, tmp_path / "seg.dcm")
        np.testing.assert_array_equal(read_mask(path).array, labels)
        positions = {
            tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
            for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
        }
        assert positions <= {tuple(np.round(frame.position_mm, 9)) for frame in tilted.frames}

    def test_slices_that_are_not_quite_even_keep_their_places(self, tmp_path):
        source = made_series(tmp_path / "ct", spacing=SPACINGS[1])
        for index, frame in enumerate(source.frames):
            data_set = pydicom.dcmread(frame.path)
            data_set.ImagePositionPatient[2] = round(float(data_set.ImagePositionPatient[2]), 3) + 0.004 * (index % 2)
            data_set.save_as(frame.path)
        uneven = read_source(tmp_path / "ct")
        labels = blobs(SHAPE)
        path = written(Volume(labels, uneven.grid.affine), uneven, tmp_path / "seg.dcm")
        volume = read_mask(path)
        np.testing.assert_array_equal(volume.array, labels)
        assert volume.notes == ()


class TestNever:
    def test_a_mask_a_thousandth_of_a_voxel_off_its_series_is_refused(self, mask, source, tmp_path):
        for shift_mm in (0.6, 0.0016):
            affine = mask.affine.copy()
            affine[0, 3] += shift_mm
            with pytest.raises(GridError, match="GRID_MISMATCH"):
                written(Volume(mask.array, affine), source, tmp_path / "seg.dcm")
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            written(Volume(mask.array[:, :, :-1], mask.affine), source, tmp_path / "seg.dcm")
        assert not (tmp_path / "seg.dcm").exists()

    @pytest.mark.parametrize("fault", ["voxel", "place", "unreadable"])
    def test_what_reads_back_otherwise_gets_no_name(self, mask, source, tmp_path, monkeypatch, fault):
        made = writing._make_segmentation

        def spoilt(*parts):
            data_set = made(*parts)
            if fault == "voxel":
                data_set.PixelData = bytes([data_set.PixelData[0] ^ 2]) + data_set.PixelData[1:]
            elif fault == "place":
                # The whole of it, so that only its place is wrong; the series' own slices show that.
                for frame in data_set.PerFrameFunctionalGroupsSequence:
                    frame.PlanePositionSequence[0].ImagePositionPatient[0] += 0.02
            else:
                del data_set.SegmentSequence
            return data_set

        monkeypatch.setattr(writing, "_make_segmentation", spoilt)
        with pytest.raises(OutputError, match="OUTPUT_NOT_VERIFIED"):
            written(mask, source, tmp_path / "seg.dcm")
        assert [path.name for path in tmp_path.iterdir()] == ["ct"]

    def test_a_series_without_what_must_be_referred_to_is_refused(self, mask, source, tmp_path):
        for file in source.files:
            data_set = pydicom.dcmread(file.path)
            del data_set.FrameOfReferenceUID
            data_set.save_as(file.path)
        with pytest.raises(OutputError, match="SEG_SOURCE"):
            written(mask, read_source(tmp_path / "ct"), tmp_path / "seg.dcm")

    def test_a_picture_without_a_position_has_no_segmentation(self, tmp_path, source):
        path = source.files[0].path
        data_set = pydicom.dcmread(path)
        data_set.Modality = "DX"
        del data_set.ImagePositionPatient
        del data_set.ImageOrientationPatient
        data_set.save_as(tmp_path / "dx.dcm")
        assert read(tmp_path / "dx.dcm").array.ndim == 2
        with pytest.raises(ImageError, match="DICOM_GEOMETRY"):
            read_source(tmp_path / "dx.dcm")
