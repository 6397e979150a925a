"""DICOM SEG in: every kind, on the grid of its series, and what is refused."""

import shutil

import numpy as np
import pydicom
import pytest

from medseg.data.align import put_on_grid
from medseg.data.dicom.read_seg import read_own_planes, read_segmentation
from medseg.data.read import read, read_mask
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import GridError, ImageError, LabelError, MedsegError
from medseg.geometry import Grid
from tests.dicom_segs import blobs, make_seg, segment

SHAPE = (6, 5, 4)


@pytest.fixture
def labels():
    return blobs(SHAPE)


@pytest.fixture
def seg(series, labels, tmp_path):
    """A BINARY segmentation of three segments beside its series."""
    return make_seg(series.folder, planes(labels), tmp_path / "seg.dcm")


def planes(labels):
    """(X, Y, Z) as highdicom takes it."""
    return np.ascontiguousarray(labels.transpose(2, 1, 0))


def codes_of(volume):
    return [note.code for note in volume.notes]


def edited(path, target, change):
    data_set = pydicom.dcmread(path)
    change(data_set)
    data_set.save_as(target)
    return target


def refusal(path, kind=ImageError, **options):
    with pytest.raises(kind) as caught:
        read_mask(path, **options)
    assert caught.value.remedy
    return caught.value.code


class TestWhole:
    @pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
    def test_labels_lie_on_the_grid_of_the_series(self, series, labels, tmp_path, kind):
        volume = read_mask(make_seg(series.folder, planes(labels), tmp_path / "seg.dcm", kind))
        np.testing.assert_array_equal(volume.array, labels)
        np.testing.assert_array_equal(volume.affine, read(series.folder).affine)
        assert volume.notes == ()
        assert not volume.is_partial

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.5"])
    def test_a_label_map_may_be_implicit_or_run_length_encoded(self, series, labels, tmp_path, syntax):
        path = make_seg(series.folder, planes(labels), tmp_path / "s.dcm", "LABELMAP", transfer_syntax_uid=syntax)
        np.testing.assert_array_equal(read_mask(path).array, labels)

    def test_a_frame_of_odd_size_begins_within_a_byte(self, tmp_path):
        shape = (7, 5, 3)  # 35 pixels per frame, no multiple of 8
        write_ct_series(np.zeros(shape, np.int16), np.diag([-1.0, -1, 2, 1]), tmp_path / "ct", seed_uid="odd")
        labels = (np.random.default_rng(1).random(shape) < 0.5).astype(np.uint8)
        path = make_seg(tmp_path / "ct", planes(labels), tmp_path / "seg.dcm")
        np.testing.assert_array_equal(read_mask(path).array, labels)

    def test_fractions_are_cut_at_half_of_the_largest_value_and_that_is_noted(self, series, tmp_path):
        shares = np.random.default_rng(2).random((4, 5, 6)).astype(np.float32)
        shares[0, 0, 0], shares[0, 0, 1] = 0.5, 0.51
        path = make_seg(series.folder, shares, tmp_path / "f.dcm", "FRACTIONAL", [segment(1, "lung")],
                        max_fractional_value=100)  # fmt: skip
        volume = read_mask(path)
        expected = (np.rint(shares * 100) > 50).astype(np.uint8).transpose(2, 1, 0)
        np.testing.assert_array_equal(volume.array, expected)
        assert codes_of(volume) == ["LABEL_THRESHOLDED"]

    def test_an_empty_segmentation_is_an_empty_mask(self, series, tmp_path):
        path = make_seg(series.folder, np.zeros((4, 5, 6), np.uint8), tmp_path / "empty.dcm")
        assert not read_mask(path).array.any()

    def test_a_folder_with_one_segmentation_names_it(self, series, seg, labels, tmp_path):
        (tmp_path / "drawn").mkdir()
        shutil.move(seg, tmp_path / "drawn" / "1.dcm")
        np.testing.assert_array_equal(read_mask(tmp_path / "drawn").array, labels)
        shutil.move(tmp_path / "drawn" / "1.dcm", series.folder / "seg")
        np.testing.assert_array_equal(read_mask(series.folder).array, labels)

    def test_a_palette_of_colours_leaves_the_numbers_of_a_label_map(self, series, labels, tmp_path):
        path = make_seg(series.folder, planes(labels), tmp_path / "s.dcm", "LABELMAP")

        def colour(data_set):
            data_set.PhotometricInterpretation = "PALETTE COLOR"
            for name in ("Red", "Green", "Blue"):
                data_set.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 8])
                data_set.add_new(f"{name}PaletteColorLookupTableData", "OW", bytes(range(255, -1, -1)))

        np.testing.assert_array_equal(read_mask(edited(path, tmp_path / "p.dcm", colour)).array, labels)

    def test_a_padding_value_is_background(self, series, labels, tmp_path):
        path = make_seg(series.folder, planes(labels), tmp_path / "s.dcm", "LABELMAP")
        changed = edited(path, tmp_path / "p.dcm", lambda data_set: setattr(data_set, "PixelPaddingValue", 2))
        np.testing.assert_array_equal(read_mask(changed).array, np.where(labels == 2, 0, labels))


class TestAway:
    """A segmentation whose series is elsewhere."""

    @pytest.fixture
    def alone(self, series, seg, tmp_path):
        far = tmp_path / "somewhere" / "else"
        far.mkdir(parents=True)
        return read_mask(shutil.copy(seg, far)), read(series.folder)

    def test_it_spans_the_planes_that_are_stored_and_says_so(self, alone, labels):
        volume, image = alone
        assert volume.is_partial
        assert codes_of(volume) == ["SEG_SERIES_ABSENT"]
        assert np.count_nonzero(volume.array) == np.count_nonzero(labels)
        np.testing.assert_array_equal(put_on_grid(volume, image.grid, "case").array, labels)

    def test_it_goes_onto_an_image_whose_axes_run_otherwise(self, alone, labels):
        volume, image = alone
        turned = image.affine @ np.array([[0, 0, -1, 5], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
        placed = put_on_grid(volume, Grid((4, 5, 6), turned), "case")
        expected = labels[::-1].transpose(2, 1, 0)
        np.testing.assert_array_equal(placed.array, expected)

    def test_it_is_refused_by_an_image_that_lies_elsewhere_or_ends_before_it(self, alone):
        volume, image = alone
        shifted = image.affine.copy()
        shifted[0, 3] += 0.3 * 1.5
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            put_on_grid(volume, Grid(SHAPE, shifted), "case")
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            put_on_grid(volume, Grid((6, 5, 2), image.affine), "case")

    def test_planes_without_a_common_step_are_refused(self, series, tmp_path, labels):
        full = labels.copy()
        full[0, 0] = 1
        path = make_seg(series.folder, planes(full), tmp_path / "s.dcm", "LABELMAP")

        def shift(data_set):
            frames = data_set.PerFrameFunctionalGroupsSequence
            frames[1].PlanePositionSequence[0].ImagePositionPatient[2] += 0.7

        moved = edited(path, tmp_path / "moved.dcm", shift)
        with pytest.raises(ImageError, match="DICOM_IRREGULAR_SLICES"):
            read_own_planes(moved)
        assert refusal(moved, GridError) == "GRID_MISMATCH"


class TestLabels:
    def test_numbers_are_labels_where_no_name_is_known(self, seg, labels):
        volume = read_mask(seg, names={1: ("liver",), 2: ("spleen",), 3: ("kidney",)})
        np.testing.assert_array_equal(volume.array, labels)
        assert codes_of(volume) == ["SEGMENTS_BY_NUMBER"]

    def test_a_name_counts_more_than_a_number_and_what_has_none_is_left_out(self, seg, labels):
        volume = read_mask(seg, names={1: ("structure_3",)})
        np.testing.assert_array_equal(volume.array, labels == 3)
        assert codes_of(volume) == ["SEGMENTS_LEFT_OUT"]

    def test_segments_of_one_code_become_one_label(self, seg, labels):
        volume = read_mask(seg, names={5: ("lungs", "SCT 39607008")})
        np.testing.assert_array_equal(volume.array, np.where(labels > 0, 5, 0))
        assert codes_of(volume) == ["SEGMENTS_MERGED"]

    def test_a_name_and_a_code_of_different_labels_are_refused(self, seg):
        names = {1: ("structure 1",), 2: ("lungs", "SCT 39607008")}
        assert refusal(seg, LabelError, names=names) == "SEGMENTS_AMBIGUOUS"

    def test_a_label_that_is_not_found_may_be_what_is_left_over(self, seg):
        assert refusal(seg, LabelError, names={1: ("structure 1",), 2: ("tumour",)}) == "SEGMENTS_AMBIGUOUS"

    def test_labels_that_are_not_expected_are_refused(self, seg):
        assert refusal(seg, LabelError, values=[0, 1]) == "LABEL_UNEXPECTED"

    def test_segments_that_overlap_are_named(self, series, tmp_path, labels):
        stack = np.stack([planes(labels) == 1, planes(labels) == 2], axis=-1).astype(np.uint8)
        stack[0, 0, 0] = 1
        path = make_seg(series.folder, stack, tmp_path / "s.dcm", segments=[segment(1, "left"), segment(2, "right")])
        with pytest.raises(LabelError, match=r"LABEL_OVERLAP.*right.*left"):
            read_mask(path)
        np.testing.assert_array_equal(read_mask(path, names={1: ("left",)}).array, stack[..., 0].transpose(2, 1, 0))


class TestSpoilt:
    def test_a_truncated_file_is_refused(self, seg, tmp_path):
        whole = seg.read_bytes()
        for count in (len(whole) - 3, len(whole) // 2, 400):
            (tmp_path / "cut.dcm").write_bytes(whole[:count])
            with pytest.raises(ImageError):
                read_mask(tmp_path / "cut.dcm")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (lambda d: setattr(d, "SegmentationType", "SURFACE"), "SEG_INVALID"),
            (lambda d: setattr(d, "SegmentSequence", []), "SEG_INVALID"),
            (lambda d: d.SegmentSequence.pop(), "SEG_INVALID"),
            (lambda d: setattr(d.SegmentSequence[1], "SegmentNumber", 1), "SEG_INVALID"),
            (lambda d: delattr(d.PerFrameFunctionalGroupsSequence[0], "SegmentIdentificationSequence"), "SEG_INVALID"),
            (lambda d: setattr(d, "NumberOfFrames", 2), "DICOM_GEOMETRY"),
            (lambda d: delattr(d.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence"), "DICOM_GEOMETRY"),
            (lambda d: setattr(d, "Rows", 4000), "IMAGE_TRUNCATED"),
            (lambda d: delattr(d, "PixelData"), "DICOM_PIXELS"),
            (lambda d: setattr(d, "FrameOfReferenceUID", "1.2.3"), "FRAME_OF_REFERENCE_DIFFERS"),
        ],
    )
    def test_tables_that_contradict_each_other_are_refused(self, seg, tmp_path, change, code):
        assert refusal(edited(seg, tmp_path / "bad.dcm", change), MedsegError) == code

    def test_frames_of_two_spacings_or_orientations_are_refused(self, seg, tmp_path):
        def own(group, data_set):
            shared = data_set.SharedFunctionalGroupsSequence[0]
            for index, frame in enumerate(data_set.PerFrameFunctionalGroupsSequence):
                item = pydicom.Dataset.from_json(shared[group][0].to_json())
                if index == 1:
                    spoil[group](item)
                setattr(frame, group, [item])
            del shared[group]

        spoil = {
            "PixelMeasuresSequence": lambda item: setattr(item, "PixelSpacing", [1, 1]),
            "PlaneOrientationSequence": lambda item: setattr(item, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]),
        }
        for group in spoil:
            bad = edited(seg, tmp_path / "bad.dcm", lambda data_set, group=group: own(group, data_set))
            assert refusal(bad) == "DICOM_MIXED_GEOMETRY"

    def test_two_frames_of_a_segment_at_one_position_are_refused(self, seg, tmp_path):
        def double(data_set):
            frames = data_set.PerFrameFunctionalGroupsSequence
            same = [f for f in frames if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1]
            same[1].PlanePositionSequence = same[0].PlanePositionSequence

        assert refusal(edited(seg, tmp_path / "bad.dcm", double)) == "SEG_INVALID"

    def test_a_number_that_no_segment_has_is_refused_in_a_label_map(self, series, labels, tmp_path):
        path = make_seg(series.folder, planes(labels), tmp_path / "s.dcm", "LABELMAP")
        bad = edited(path, tmp_path / "bad.dcm", lambda data_set: data_set.SegmentSequence.pop())
        assert refusal(bad) == "SEG_INVALID"

    def test_a_folder_with_two_segmentations_is_refused(self, seg, tmp_path):
        (tmp_path / "two").mkdir()
        for name in ("a.dcm", "b.dcm"):
            shutil.copy(seg, tmp_path / "two" / name)
        assert refusal(tmp_path / "two") == "SEG_SEVERAL"

    def test_a_damaged_slice_of_its_series_is_no_silent_end(self, series, seg):
        series.path(4).write_bytes(series.path(4).read_bytes()[:300])
        with pytest.raises(ImageError):
            read_segmentation(seg)

    def test_it_is_no_image(self, seg):
        with pytest.raises(ImageError, match="DICOM_NO_IMAGE"):
            read(seg)
