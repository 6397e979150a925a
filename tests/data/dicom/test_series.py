"""DICOM series: one whole, regular series becomes a volume; everything else is refused."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

from medseg.data.dicom.series import read_dicom
from medseg.data.read import read
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError
from medseg.geometry import Grid, reindex
from tests.dicom_folders import TRUTH, add_series, edit, save, save_all, slices, uid


def codes(volume):
    return [note.code for note in volume.notes]


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


def simpleitk_volume(folder):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


class TestWhole:
    def test_voxels_and_affine_are_those_that_were_written(self, series):
        volume = read(series.folder)
        np.testing.assert_array_equal(volume.array, series.array)
        assert volume.array.dtype == np.int16
        np.testing.assert_allclose(volume.affine, series.affine)
        assert volume.notes == ()

    @settings(max_examples=15, deadline=None)
    @given(
        st.tuples(*[st.floats(-1.5, 1.5)] * 2),
        st.tuples(*[st.floats(0.3, 5)] * 3),
        st.booleans(),
        st.permutations(range(3)),
    )
    def test_any_orientation_agrees_with_simpleitk_and_with_what_was_written(
        self, tmp_path_factory, angles, spacing, is_mirrored, order
    ):
        folder = tmp_path_factory.mktemp("oblique")
        (a, b), affine = angles, np.eye(4)
        turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        affine[:3, :3] = (turn_z @ turn_x)[:, order] * spacing * [-1 if is_mirrored else 1, 1, 1]
        affine[:3, 3] = 12.5, -7, 99
        voxels = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
        write_ct_series(voxels, affine, folder, seed_uid="oblique")
        volume = read_dicom(folder)
        array, peer_affine = simpleitk_volume(folder)
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, peer_affine, atol=1e-4)
        written = Grid(voxels.shape, affine)
        np.testing.assert_array_equal(reindex(volume.array, volume.grid, written, "case"), voxels)

    def test_names_and_instance_numbers_do_not_matter(self, series):
        for number, name in zip((1, 2, 3, 4), ("d", "a", "c", "b"), strict=True):
            series.edit(number, InstanceNumber=7)
            series.path(number).rename(series.folder / name)
        np.testing.assert_array_equal(read_dicom(series.folder).array, series.array)

    @pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian], ids=["rle", "deflated"])
    def test_compressed_slices_are_read(self, series, syntax):
        for path in series.folder.iterdir():
            data_set = pydicom.dcmread(path)
            if syntax == RLELossless:
                data_set.compress(syntax)
            else:
                data_set.file_meta.TransferSyntaxUID = syntax
            data_set.save_as(path)
        np.testing.assert_array_equal(read_dicom(series.folder).array, series.array)

    def test_rounded_positions_are_no_missing_slice(self, series):
        for number, z in zip((1, 2, 3, 4), (0, 3.987, 7.975, 11.962), strict=True):
            series.edit(number, ImagePositionPatient=[-10, -20, z])
        volume = read_dicom(series.folder)
        assert volume.grid.spacing_mm[2] == pytest.approx(11.962 / 3)
        assert volume.notes == ()

    def test_a_single_file_is_a_volume_of_one_slice(self, series):
        volume = read(series.path(2))
        np.testing.assert_array_equal(volume.array, series.array[:, :, 1:2])
        np.testing.assert_allclose(volume.affine[:, 3], series.affine @ [0, 0, 1, 1])
        assert volume.grid.spacing_mm == pytest.approx((1.5, 2, 3))

    def test_a_single_slice_without_thickness_is_noted(self, series):
        series.edit(2, SliceThickness=None)
        assert codes(read_dicom(series.path(2))) == ["DICOM_NO_THICKNESS"]

    def test_a_dicom_file_needs_no_suffix(self, series, tmp_path):
        plain = series.path(1).rename(tmp_path / "IM0001")
        np.testing.assert_array_equal(read(plain).array, series.array[:, :, :1])

    def test_a_tilted_gantry_is_kept_as_shear(self, series):
        for number in (1, 2, 3, 4):
            series.edit(number, ImagePositionPatient=[-10, -20 - 0.5 * number, 30 + 3 * (number - 1)])
        volume = read_dicom(series.folder)
        np.testing.assert_allclose(volume.affine[:3, 2], [0, 0.5, 3])
        assert codes(volume) == ["GANTRY_TILT", "SHEARED_GRID"]


class TestRescaling:
    def test_other_slopes_per_slice_give_float32(self, series):
        for number in (1, 2, 3, 4):
            series.edit(number, RescaleSlope=str(0.5 * number), RescaleIntercept="1.25")
        stored = series.array.astype(float) + 1024
        expected = stored * [0.5, 1, 1.5, 2] + 1.25
        volume = read_dicom(series.folder)
        assert volume.array.dtype == np.float32
        np.testing.assert_array_equal(volume.array, expected.astype(np.float32))

    def test_whole_intercepts_per_slice_keep_integers(self, series):
        series.edit(1, RescaleIntercept="-1000")
        volume = read_dicom(series.folder)
        assert np.issubdtype(volume.array.dtype, np.integer)
        np.testing.assert_array_equal(volume.array, series.array + np.array([24, 0, 0, 0]))

    def test_ct_without_rescaling_is_noted_and_mr_is_not(self, series):
        series.edit_all(RescaleSlope=None, RescaleIntercept=None)
        assert codes(read_dicom(series.folder)) == ["DICOM_NO_RESCALE"]
        series.edit_all(Modality="MR")
        assert codes(read_dicom(series.folder)) == []

    @pytest.mark.parametrize(("slope", "intercept"), [("1", "NaN"), ("inf", "0"), ("0", "0")])
    def test_a_rescaling_that_is_no_number_is_refused(self, series, slope, intercept):
        path = series.path(3)
        data_set = pydicom.dcmread(path)
        for keyword, text in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
            tag = pydicom.datadict.tag_for_keyword(keyword)
            data_set[tag] = pydicom.DataElement(tag, "LO", text)
        data_set.save_as(path)
        raw = path.read_bytes()
        path.write_bytes(
            raw.replace(b"\x28\x00\x52\x10LO", b"\x28\x00\x52\x10DS").replace(b"\x53\x10LO", b"\x53\x10DS")
        )
        error = refusal(series.folder)
        assert error.code == "DICOM_RESCALE"
        assert error.case == str(path)

    def test_dark_for_high_values_is_noted_and_values_stay(self, series):
        series.edit_all(PhotometricInterpretation="MONOCHROME1")
        volume = read_dicom(series.folder)
        np.testing.assert_array_equal(volume.array, series.array)
        assert codes(volume) == ["DICOM_MONOCHROME1"]


class TestPictures:
    def test_an_x_ray_without_a_position_is_a_2d_picture(self, series):
        path = series.path(1)
        series.edit(1, Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
        series.edit(1, ImagerPixelSpacing=[0.2, 0.1])
        volume = read_dicom(path)
        np.testing.assert_array_equal(volume.array, series.array[:, :, 0])
        assert volume.grid.spacing_mm == (0.1, 0.2)
        assert codes(volume) == ["DICOM_NO_POSITION"]

    def test_colours_are_channels_first(self, series):
        colours = np.random.default_rng(1).integers(0, 255, (5, 6, 3)).astype(np.uint8)
        path = series.path(1)
        series.edit(
            1, ImagePositionPatient=None, ImageOrientationPatient=None, RescaleSlope=None, RescaleIntercept=None
        )
        series.edit(1, Modality="XC", SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB")
        series.edit(1, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0, PixelData=colours.tobytes())
        volume = read_dicom(path)
        assert volume.has_channels
        np.testing.assert_array_equal(volume.array, colours.transpose(2, 1, 0))


def test_files_that_are_no_dicom_are_left_out_and_noted_by_name(series):
    (series.folder / "notes.txt").write_text("notes")
    (series.folder / "empty.dcm").write_bytes(b"")
    (series.folder / ".DS_Store").write_bytes(b"hidden")
    volume = read_dicom(series.folder)
    np.testing.assert_array_equal(volume.array, series.array)
    assert codes(volume) == ["DICOM_JUNK_SKIPPED"]
    assert "empty.dcm, notes.txt" in volume.notes[0].problem


def test_an_empty_file_named_like_the_slices_is_a_lost_slice(series):
    series.path(5).write_bytes(b"")
    error = refusal(series.folder)
    assert (error.code, error.case) == ("DICOM_UNREADABLE", str(series.path(5)))


def test_objects_without_an_image_are_left_out_and_noted(series):
    series.edit(1, series.folder / "report.dcm", Rows=None, PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    assert codes(read_dicom(series.folder)) == ["DICOM_NON_IMAGE_SKIPPED"]


def test_a_preamble_that_is_a_program_is_noted(series):
    path = series.path(1)
    path.write_bytes(b"\x7fELF" + path.read_bytes()[4:])
    assert codes(read_dicom(series.folder)) == ["DICOM_PREAMBLE"]


def test_a_folder_without_any_image_is_refused(tmp_path):
    assert refusal(tmp_path).code == "DICOM_NO_IMAGE"


def test_folders_below_a_dicomdir_are_searched(series, tmp_path):
    disc = make_disc(series, tmp_path, ["ST0", "SE0", "IM0"])
    np.testing.assert_array_equal(read_dicom(disc).array, series.array)


def test_a_dicomdir_that_points_outside_is_refused(series, tmp_path):
    assert refusal(make_disc(series, tmp_path, ["..", "..", "secret"])).code == "DICOM_DIRECTORY"


def make_disc(series, tmp_path, referenced):
    disc = tmp_path / "disc"
    (disc / "ST0").mkdir(parents=True)
    series.folder.rename(disc / "ST0" / "SE0")
    directory, record = Dataset(), Dataset()
    record.ReferencedFileID = referenced
    directory.DirectoryRecordSequence = Sequence([record])
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(disc / "DICOMDIR", enforce_file_format=True)
    return disc


def test_the_series_of_a_folder_are_listed_without_naming_patients(series):
    series.edit(2, PatientID="MRN-12345", PatientName="Somebody^Real")
    error = refusal(series.folder)
    assert error.code == "DICOM_SEVERAL_SERIES"
    assert "CT 6×5, 3 slices" in error.problem
    assert "(such as slice0002.dcm)" in error.problem
    assert "MRN" not in str(error)
    assert "Somebody" not in str(error)


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
