"""The series that a mask was drawn on: where it is looked for, where its slices lie, and what a mask says of it."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, generate_uid

from medseg.data.dicom.read_seg import read_dicom_mask
from medseg.data.dicom.series import read_dicom
from medseg.data.dicom.source import (
    PROBED_FILES,
    check_frame_of_reference,
    find_series,
    keep_references,
    list_image_series,
    list_images,
    read_contour_images,
    read_contour_series,
    read_referenced_series,
    read_segmentation_images,
    read_segmentation_series,
    read_source,
)
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError
from tests.dicom_folders import AFFINE, SLICES, TRUTH, add_series, save, save_all, slices, uid
from tests.dicom_segs import blobs, contour_mm, make_seg, make_structures

SERIES = (uid("series"),)

SQUARE = [(3.6, 2.6), (10.4, 2.6), (10.4, 8.4), (3.6, 8.4)]

OWN = generate_uid(entropy_srcs=["drawn on", "series"])

FORMS = ("binary", "labelmap", "rtstruct")


@pytest.fixture
def ct(tmp_path):
    """A series deep enough in a folder of its own that no other test's lies beside it."""
    folder = tmp_path / "alone" / "home" / "work" / "ct"
    save_all(slices(), folder)
    return folder


def refusal(call, *parts):
    with pytest.raises(ImageError) as caught:
        call(*parts)
    assert caught.value.remedy
    return caught.value.code


def test_a_source_lies_where_the_volume_lies_and_its_planes_are_in_order(ct):
    source, volume = read_source(ct), read_dicom(ct)
    assert source.grid.shape == volume.array.shape == TRUTH.shape
    np.testing.assert_array_equal(source.grid.affine, volume.affine)
    np.testing.assert_allclose(source.positions_mm, [[-10, -20, -30 + 3 * place] for place in range(SLICES)])
    np.testing.assert_allclose(source.step_mm, [0, 0, 3])
    assert (source.uid, source.frame_of_reference) == (SERIES[0], uid("frame of reference"))


def test_the_series_is_found_beside_the_mask_and_not_farther(ct):
    work = ct.parent
    near = {
        "its own folder": ct / "mask",
        "a folder below": work / "mask",
        "two levels below": work.parent / "mask",
        "a folder beside": work / "other" / "mask",
        "a folder of a folder beside": work.parent / "other" / "mask",
    }
    for place, mask in near.items():
        assert find_series(SERIES, mask).uid == SERIES[0], place
    far = {"three levels below": work.parent / "a", "two levels up": work / "other" / "deeper" / "mask"}
    ct.rename(work / "ct2")
    (work / "x").mkdir()
    (work / "ct2").rename(work / "x" / "ct")
    assert find_series(SERIES, far["three levels below"]) is None
    assert find_series(SERIES, far["two levels up"]) is None


def test_hidden_folders_and_other_series_are_passed_over(ct):
    assert find_series((), ct / "mask") is None
    assert find_series(("1.2.3",), ct / "mask") is None
    ct.rename(ct.with_name(".ct"))
    assert find_series(SERIES, ct.parent / "mask") is None


def test_a_series_behind_many_other_files_is_found_all_the_same(ct):
    for number in range(PROBED_FILES + 1):
        (ct / f"!{number}").write_text("no DICOM")
    assert find_series(SERIES, ct / "mask").uid == SERIES[0]


def test_a_link_to_a_folder_is_not_followed(ct, tmp_path):
    away = ct.parent.parent / "away"
    away.mkdir()
    (away / "link").symlink_to(tmp_path / "linked")
    assert find_series(SERIES, away / "mask").uid == SERIES[0]  # In a folder beside.
    ct.rename(tmp_path / "linked")
    assert len(list((away / "link").iterdir())) == SLICES
    assert find_series(SERIES, away / "mask") is None


def test_a_series_that_is_no_volume_is_no_source(ct):
    sorted(ct.iterdir())[2].unlink()
    assert refusal(find_series, SERIES, ct / "mask") == "DICOM_MISSING_SLICE"
    assert refusal(read_source, ct) == "DICOM_MISSING_SLICE"


def test_positions_of_another_frame_of_reference_are_refused_and_unknown_ones_are_not(ct):
    source = read_source(ct)
    check_frame_of_reference("", source, ct)
    check_frame_of_reference(source.frame_of_reference, source, ct)
    assert refusal(check_frame_of_reference, "1.2.3", source, ct) == "FRAME_OF_REFERENCE_DIFFERS"


def test_a_mask_names_the_series_and_the_images_that_it_was_drawn_on(tmp_path):
    ct = tmp_path / "ct"
    write_ct_series(TRUTH, AFFINE, ct, seed_uid="drawn on")
    seg = pydicom.dcmread(make_seg(ct, blobs(TRUTH.shape).transpose(2, 1, 0), tmp_path / "seg"))
    drawn = pydicom.dcmread(make_structures(ct, tmp_path / "rtstruct", {(1, "lung"): [contour_mm(AFFINE, SQUARE, 1)]}))
    assert read_segmentation_series(seg) == read_contour_series(drawn) == (read_source(ct).uid,)
    frames = read_source(ct).frames
    named = {instance for instance, _ in read_segmentation_images(seg)}
    assert named
    assert read_segmentation_images(seg) <= list_images(frames)
    assert read_contour_images(drawn) <= list_images(frames)


def test_a_header_without_references_names_nothing():
    nothing = Dataset()
    assert read_segmentation_series(nothing) == read_contour_series(nothing) == ()
    assert read_segmentation_images(nothing) == read_contour_images(nothing) == frozenset()
    keep_references(nothing, ())
    assert len(nothing) == 0
    assert list_images(()) == frozenset()


def test_references_to_frames_that_the_mask_was_not_made_from_are_left_out(ct):
    def item(name, frame=None):
        made = Dataset()
        made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = CTImageStorage, name
        if frame:
            made.ReferencedFrameNumber = frame
        return made

    frames = read_source(ct).frames
    own = str(frames[0].groups[-1].SOPInstanceUID)
    derived, group, header = Dataset(), Dataset(), Dataset()
    derived.SourceImageSequence = [item(own), item(own, 1), item(own, 2), item("1.2.3")]
    group.DerivationImageSequence = [derived]
    header.SharedFunctionalGroupsSequence = [group]
    keep_references(header, frames[:1])
    kept = derived.SourceImageSequence
    assert [(each.ReferencedSOPInstanceUID, each.get("ReferencedFrameNumber")) for each in kept] == [
        (own, None),
        (own, 1),
    ]


@pytest.fixture
def drawn_on(tmp_path):
    """A series that masks can be drawn on, with all that the standard wants of it."""
    write_ct_series(TRUTH, AFFINE, tmp_path / "ct", seed_uid="drawn on")
    return tmp_path / "ct"


def draw(form, ct):
    """A mask of one form beside the series, and the labels that it holds."""
    path = ct.parent / form
    if form == "rtstruct":
        make_structures(ct, path, {(1, "lung"): [contour_mm(AFFINE, SQUARE, 1)]})
        labels = np.zeros(TRUTH.shape, np.uint8)
        labels[4:11, 3:9, 1] = 1
        return path, labels
    labels = blobs(TRUTH.shape)
    return make_seg(ct, labels.transpose(2, 1, 0), path, form.upper()), labels


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_is_read_by_its_kind_and_names_its_series(drawn_on, form):
    path, labels = draw(form, drawn_on)
    np.testing.assert_array_equal(read_dicom_mask(path).array, labels)
    assert read_referenced_series(path) == (OWN,)


def test_a_mask_that_cannot_be_read_is_refused(drawn_on):
    path, _ = draw("binary", drawn_on)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ImageError) as caught:
        read_referenced_series(path)
    assert caught.value.remedy


def test_the_series_of_a_folder_are_those_of_its_own_images(drawn_on):
    assert list_image_series(drawn_on) == {OWN}
    path, _ = draw("binary", drawn_on)
    path.rename(drawn_on / "mask")
    add_series(drawn_on / "below", "other", 12)
    add_series(drawn_on / ".hidden", "hidden", 13)
    (drawn_on / "text").write_text("no DICOM")
    (drawn_on / "cut").write_bytes((drawn_on / "slice0001.dcm").read_bytes()[:300])
    assert list_image_series(drawn_on) == {OWN}
    assert list_image_series(drawn_on / "below") == {uid("other")}
    (drawn_on.parent / "empty").mkdir()
    assert list_image_series(drawn_on.parent / "empty") == set()


def test_a_deflated_image_names_its_series_too(tmp_path):
    save(slices()[0], tmp_path / "s.dcm", DeflatedExplicitVRLittleEndian)
    assert list_image_series(tmp_path) == {uid("series")}
