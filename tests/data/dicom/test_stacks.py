"""One of several phases, echoes or orientations in a series is read when it is asked for by its number."""

import random
import shutil

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medseg.data.cases import open_images
from medseg.data.dicom.file import read_file
from medseg.data.dicom.frames import list_frames
from medseg.data.dicom.read_seg import read_segmentation
from medseg.data.dicom.series import read_dicom, take_inventory
from medseg.data.dicom.source import read_source
from medseg.data.dicom.stacks import MOST_STACKS, find_stacks
from medseg.data.dicom.write_seg import write_segmentation
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from medseg.errors import ImageError, UsageError
from medseg.options import PredictOptions
from tests.dicom_faults import with_localizer
from tests.dicom_folders import AFFINE, SLICES, TRUTH, edit, edited, enhanced, save, save_all, slices, twice, uid
from tests.dicom_pixel_faults import frame_values
from tests.dicom_segs import AUTHOR, blobs, contour_mm, make_structures, meaning

BRIGHTER = 500
"""What the second stack's values have more than the first's."""


def two_echoes(folder, first=4.6, second=9.2):
    """Every slice at two echo times, the second brighter; the files' names say nothing."""
    twice("EchoTime", second, first)(folder)
    for number in range(SLICES + 1, 2 * SLICES + 1):
        path = folder / f"s{number}.dcm"
        save(edit(dcmread(path), RescaleIntercept=BRIGHTER - 1024), path)
    names = sorted(path.name for path in folder.iterdir())
    for path, name in zip(sorted(folder.iterdir()), random.Random(5).sample(names, len(names)), strict=True):
        path.rename(folder / f"i{name}")
    return folder


def frames_in(folder):
    return [frame for path in sorted(folder.iterdir()) for frame in list_frames(path, read_file(path).header)]


def refusal(path, wanted=None):
    with pytest.raises(ImageError) as caught:
        read_dicom(path, wanted)
    return caught.value


class TestPicking:
    def test_each_echo_is_read_by_its_number_in_the_order_of_the_times(self, tmp_path):
        folder = two_echoes(tmp_path / "mr")
        for wanted, more in (("3:1", 0), ("3:2", BRIGHTER), (":2", BRIGHTER), (f"{uid('series')[-8:]}:2", BRIGHTER)):
            volume = read(f"{folder}#series={wanted}")
            np.testing.assert_array_equal(volume.array, TRUTH + more)
            np.testing.assert_allclose(volume.affine, AFFINE)
            assert volume.notes == ()

    def test_the_refusal_lists_the_numbers_their_slices_and_the_flag(self, tmp_path):
        error = refusal(two_echoes(tmp_path / "mr"))
        assert error.code == "DICOM_SEVERAL_PHASES"
        assert "1: EchoTime 4.6 (6 slices); 2: EchoTime 9.2 (6 slices)" in error.problem
        assert "--series 3:" in error.remedy
        (series,) = take_inventory(tmp_path / "mr").series
        (finding,) = [each for each in series.findings if each.code == error.code]
        assert (finding.problem, finding.remedy) == (error.problem, error.remedy)

    def test_a_series_without_a_number_is_named_by_the_end_of_its_uid(self, tmp_path):
        folder = two_echoes(tmp_path / "mr")
        for path in folder.iterdir():
            save(edit(dcmread(path), SeriesNumber=None), path)
        remedy = refusal(folder).remedy
        wanted = f"{uid('series')[-12:]}:2"
        assert f"--series {wanted[:-1]}" in remedy
        np.testing.assert_array_equal(read_dicom(folder, wanted).array, TRUTH + BRIGHTER)

    @pytest.mark.parametrize("wanted", ["3:0", "3:3", "3:12345678901234567890", "4:1", "3:", "3:x", ":", "3:1:1"])
    def test_a_number_that_is_not_there_is_refused(self, tmp_path, wanted):
        assert refusal(two_echoes(tmp_path / "mr"), wanted).code == "DICOM_SERIES_NOT_FOUND"

    def test_a_whole_series_is_its_only_stack(self, tmp_path):
        save_all(slices(), tmp_path)
        np.testing.assert_array_equal(read_dicom(tmp_path, "3:1").array, TRUTH)
        assert refusal(tmp_path, "3:2").code == "DICOM_SERIES_NOT_FOUND"

    def test_frames_of_one_file_are_picked_alike(self, tmp_path):
        frame_values("MREchoSequence", "EffectiveEchoTime", [10.0, 20.0])(tmp_path)
        path = tmp_path / "volume.dcm"
        data = dcmread(path)
        for frame in data.PerFrameFunctionalGroupsSequence[SLICES:]:
            frame.PixelValueTransformationSequence[0].RescaleIntercept = BRIGHTER - 1024
        data.save_as(path)
        for place in (tmp_path, path):
            np.testing.assert_array_equal(read(f"{place}#series=3:1").array, TRUTH)
            np.testing.assert_array_equal(read(f"{place}#series=3:2").array, TRUTH + BRIGHTER)

    def test_slices_are_picked_without_the_localizer_among_them(self, tmp_path):
        with_localizer(tmp_path)
        error = refusal(tmp_path)
        assert error.code == "DICOM_LOCALIZER"
        assert "1: axial 36×34 (6 slices); 2: coronal 36×34 (1 slices)" in error.problem
        np.testing.assert_array_equal(read_dicom(tmp_path, "3:1").array, TRUTH)

    def test_what_is_wrong_with_the_picked_stack_is_refused_and_what_is_wrong_with_another_is_not(self, tmp_path):
        folder = two_echoes(tmp_path / "mr")
        second = [frame.path for frame in read_source(folder, "3:2").frames]
        second[2].unlink()
        save(edit(dcmread(second[3]), PixelData=bytes(30)), second[3])
        np.testing.assert_array_equal(read_dicom(folder, "3:1").array, TRUTH)
        assert refusal(folder, "3:2").code == "IMAGE_TRUNCATED"
        second[3].unlink()
        assert refusal(folder, "3:2").code == "DICOM_MISSING_SLICE"

    def test_slices_that_nothing_tells_apart_cannot_be_picked(self, tmp_path):
        twice("ImageComments", "x")(tmp_path)
        error = refusal(tmp_path)
        assert error.code == "DICOM_DUPLICATE_SLICE"
        assert "--series" not in error.remedy
        assert refusal(tmp_path, "3:1").code == "DICOM_DUPLICATE_SLICE"


class TestStacks:
    def test_numbers_come_before_the_order_of_their_texts_and_names_do_not_matter(self, tmp_path):
        frames = frames_in(two_echoes(tmp_path / "mr", 10.0, 9.5))
        expected = [("EchoTime 9.5", 6), ("EchoTime 10.0", 6)]
        for seed in range(4):
            mixed = random.Random(seed).sample(frames, len(frames))
            assert [(stack.what, len(stack.frames)) for stack in find_stacks(mixed)] == expected

    def test_echoes_at_several_times_are_told_apart_by_both(self, tmp_path):
        data = enhanced([*range(SLICES)] * 4)
        for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence[0].TemporalPositionIndex = 1 + number // (2 * SLICES)
            frame.MREchoSequence = [edit(Dataset(), EffectiveEchoTime=[10.0, 20.0][number // SLICES % 2])]
        found = find_stacks(list_frames(tmp_path, data))
        assert [len(stack.frames) for stack in found] == [SLICES] * 4
        assert [stack.what for stack in found] == [
            f"TemporalPositionIndex {time}, EffectiveEchoTime {echo:.1f}" for time in (1, 2) for echo in (10, 20)
        ]

    def test_times_of_their_own_for_each_slice_are_no_stacks(self, tmp_path):
        twice("TriggerTime", 0)(tmp_path)
        for number, path in enumerate(sorted(tmp_path.iterdir())):
            save(edit(dcmread(path), TriggerTime=10 * number), path)
        assert len(find_stacks(frames_in(tmp_path))) == 1
        assert "--series" not in refusal(tmp_path).remedy

    def test_no_frame_is_no_stack_and_a_regular_series_is_one(self, tmp_path):
        assert find_stacks([]) == []
        edited()(tmp_path)
        (stack,) = find_stacks(frames_in(tmp_path))
        assert len(stack.frames) == SLICES

    def test_orientations_without_number_are_not_sorted_out(self, tmp_path):
        data = enhanced([0] * (MOST_STACKS + 2))
        for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            angle = 3 * number / MOST_STACKS
            cosines = [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]
            frame.PlaneOrientationSequence = [edit(Dataset(), ImageOrientationPatient=[round(c, 9) for c in cosines])]
        del data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        assert len(find_stacks(list_frames(tmp_path, data))) == 1


class TestMasks:
    @pytest.fixture(params=["files", "frames"])
    def picked(self, request, tmp_path):
        """A folder with two stacks, and the second of them as a source."""
        if request.param == "files":
            two_echoes(tmp_path / "mr")
        else:
            frame_values("MREchoSequence", "EffectiveEchoTime", [10.0, 20.0])(tmp_path / "mr")
        return tmp_path / "mr", read_source(tmp_path / "mr", "3:2")

    def test_a_segmentation_refers_to_the_picked_stack_alone(self, picked, tmp_path):
        _, source = picked
        write_segmentation(
            Volume(blobs(TRUTH.shape), source.grid.affine), source, tmp_path / "seg.dcm", meaning(3), AUTHOR
        )
        made = dcmread(tmp_path / "seg.dcm")
        numbers = {frame.path: set() for frame in source.frames}
        for frame in source.frames:
            numbers[frame.path].add(frame.index + 1)
        instances = {str(read_file(path).header.SOPInstanceUID): every for path, every in numbers.items()}
        (series,) = made.ReferencedSeriesSequence
        assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == set(instances)
        found = 0
        for frame in made.PerFrameFunctionalGroupsSequence:
            for derived in frame.get("DerivationImageSequence") or []:
                for item in derived.SourceImageSequence:
                    found += 1
                    stated = item.get("ReferencedFrameNumber")
                    each = [stated] if isinstance(stated, int) else list(stated or [])
                    assert {int(number) for number in each} <= instances[item.ReferencedSOPInstanceUID]
        assert found == len(made.PerFrameFunctionalGroupsSequence)

    def test_a_segmentation_of_a_stack_is_read_on_the_grid_of_that_stack(self, picked, tmp_path):
        folder, source = picked
        labels = blobs(TRUTH.shape)
        path = tmp_path / "seg.dcm"
        write_segmentation(Volume(labels, source.grid.affine), source, path, meaning(3), AUTHOR)
        volume = read_segmentation(shutil.copy(path, folder.parent / "beside.dcm"))
        np.testing.assert_array_equal(volume.array, labels)
        np.testing.assert_allclose(volume.affine, source.grid.affine)
        assert "SEG_SERIES_ABSENT" not in {note.code for note in volume.notes}

    def test_contours_are_filled_on_the_stack_whose_images_they_name(self, tmp_path):
        folder = two_echoes(tmp_path / "mr")
        source = read_source(folder, "3:2")
        corners = [(3.6, 2.6), (10.4, 2.6), (10.4, 8.4), (3.6, 8.4)]
        path = tmp_path / "rt.dcm"
        make_structures(folder, path, {(1, "lung"): [contour_mm(source.grid.affine, corners, 2)]})
        with pytest.raises(ImageError, match="DICOM_SEVERAL_PHASES"):
            read_mask(path)
        data = dcmread(path)
        named = edit(Dataset(), ReferencedSOPInstanceUID=read_file(source.frames[2].path).header.SOPInstanceUID)
        data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [named]
        data.save_as(path)
        assert np.count_nonzero(read_mask(path).array) == 42


class TestNames:
    def test_stacks_of_one_folder_in_a_table_are_cases_whose_names_hold_no_colon(self, tmp_path):
        two_echoes(tmp_path / "exam")
        (tmp_path / "list.csv").write_text("image\nexam#series=3:1\nexam#series=3:2\nexam#series=:2\n")
        names = {case.id: case.images[0] for case in open_images(tmp_path / "list.csv")}
        assert sorted(names) == ["exam_series3_stack1", "exam_series3_stack2", "exam_series_stack2"]
        assert names["exam_series3_stack2"] == str(tmp_path / "exam#series=3:2")

    @pytest.mark.parametrize("wanted", ["3:2", ":2", "190024.52:12"])
    def test_the_option_takes_what_the_refusal_says(self, wanted):
        assert PredictOptions(series=wanted).series == wanted

    @pytest.mark.parametrize("wanted", ["", ":", "3:", "3:x", "3:1:1", "x:1", "3:-1", "٣"])
    def test_the_option_refuses_anything_else(self, wanted):
        with pytest.raises(UsageError, match="SETTING_INVALID"):
            PredictOptions(series=wanted)
