"""All that is wrong with a data set is named at once, before a training."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.checking.usable_pairs import check_pairs, require_usable
from medseg.data.cases.case import Case, Dataset, Labels
from medseg.data.write import write
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import DatasetError

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
IMAGE = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
MASK = (IMAGE > 20).astype(np.uint8)


@pytest.fixture
def pair(tmp_path):
    """Writes a case's image and mask, and returns it."""

    def made(name, image=IMAGE, mask=MASK, affine=AFFINE):
        paths = (tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_mask.nii.gz")
        write(image, AFFINE, paths[0], has_channels=image.ndim == 4)
        write(mask, affine, paths[1])
        return Case(name, (str(paths[0]),), str(paths[1]), name)

    return made


@pytest.fixture
def picture(tmp_path):
    """Writes a grey case as PNG, the mask as it is given."""

    def made(name, mask, image=None):
        paths = (tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png")
        Image.fromarray(np.zeros((4, 5), np.uint8) if image is None else image).save(paths[0])
        Image.fromarray(np.asarray(mask, np.uint8)).save(paths[1])
        return Case(name, (str(paths[0]),), str(paths[1]), name)

    return made


def found(cases, *arguments):
    return [(finding.case, finding.code) for finding in check_pairs(cases, *arguments)]


def shifted(by_mm):
    affine = AFFINE.copy()
    affine[0, 3] = by_mm
    return affine


def test_good_pairs_give_nothing(pair):
    cases = [pair("a"), pair("b")]
    assert check_pairs(cases, [0, 1], 1) == []
    assert require_usable(cases, [0, 1], 1) == ()
    assert check_pairs([]) == []
    assert require_usable([]) == ()


def test_a_data_set_is_checked_like_its_cases(pair, tmp_path):
    cases = (pair("a"), pair("b", mask=MASK + 4))
    assert (
        found(Dataset(tmp_path, cases, Labels(), (), "csv"), [0, 1])
        == found(cases, [0, 1])
        == [("b", "LABEL_UNEXPECTED")]
    )


def test_everything_that_is_wrong_is_named_in_one_error_and_in_order(pair, picture, tmp_path):
    unreadable = pair("unreadable")
    Path(unreadable.images[0]).write_bytes(b"no image")
    maskless = pair("maskless")
    Path(maskless.label).write_bytes(b"no mask")
    coloured = np.zeros((4, 5, 3), np.uint8)
    coloured[0, 0, 0] = 255
    cases = [
        pair("good"),
        unreadable,
        maskless,
        pair("cut", mask=MASK[:, :, :4]),
        pair("moved", affine=shifted(1.5)),
        picture("coloured", coloured),
        pair("labels", mask=MASK * 7),
        pair("channels", image=np.stack([IMAGE, IMAGE])),
        Case("gone", (str(tmp_path / "none.nii"),), str(tmp_path / "none_mask.nii"), "gone"),
        Case("alone", pair("image").images, None, "alone"),
    ]
    expected = [
        ("unreadable", "IMAGE_HEADER"),
        ("maskless", "IMAGE_HEADER"),
        ("cut", "SHAPE_MISMATCH"),
        ("moved", "GRID_MISMATCH"),
        ("coloured", "LABEL_CHANNELS"),
        ("labels", "LABEL_UNEXPECTED"),
        ("channels", "CHANNEL_COUNT"),
        ("gone", "IMAGE_NOT_FOUND"),
        ("gone", "IMAGE_NOT_FOUND"),
        ("alone", "MASK_MISSING"),
    ]
    assert found(cases, [0, 1], 1) == expected
    with pytest.raises(DatasetError) as caught:
        require_usable(cases, [0, 1], 1)
    assert caught.value.code == "PAIRS_UNUSABLE"
    for case, code in expected:
        assert case in caught.value.problem
        assert code in caught.value.problem
    assert "good" not in caught.value.problem


def test_a_single_finding_keeps_its_own_code_and_case(pair):
    with pytest.raises(DatasetError) as caught:
        require_usable([pair("a"), pair("b", affine=shifted(9))])
    assert (caught.value.code, caught.value.case) == ("GRID_MISMATCH", "b")


def test_an_image_and_its_mask_can_both_be_wrong(pair):
    case = pair("a", image=np.stack([IMAGE, IMAGE]), mask=MASK * 3)
    assert found([case], [0, 1], 1) == [("a", "CHANNEL_COUNT"), ("a", "LABEL_UNEXPECTED")]


def test_voxels_that_are_no_numbers_are_found(pair):
    image = IMAGE.astype(np.float32)
    image[0, 0, 0] = np.nan
    assert found([pair("a", image=image)]) == [("a", "NONFINITE_VOXELS")]


def test_a_mask_stored_the_other_way_round_is_no_finding(pair):
    turned = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1.0]])
    assert check_pairs([pair("a", mask=MASK[:, :, ::-1], affine=turned)]) == []


def test_soft_edges_pass_with_a_note_that_states_the_threshold(picture):
    white, grey = np.zeros((40, 5)), np.zeros((40, 5))
    white[0], grey[0], grey[1] = 255, 255, 100
    image = np.zeros((40, 5), np.uint8)
    cases = [picture(n, m, image) for n, m in zip("abc", (white, grey, grey), strict=True)]
    notes = {note.code: note.problem for note in require_usable(cases, [0, 1])}
    assert set(notes) == {"LABEL_MAPPED", "LABEL_THRESHOLDED"}
    assert notes["LABEL_THRESHOLDED"].startswith("2 files, such as b")
    assert "127.5" in notes["LABEL_THRESHOLDED"]


def test_halves_are_checked_as_one_mask(picture, tmp_path):
    left, right = np.zeros((4, 5)), np.zeros((4, 5))
    left[:, 0], right[:, 4] = 255, 255
    one, other = picture("a", left), picture("b", right)
    assert check_pairs([Case("a", one.images, (one.label, other.label), "a")], [0, 1], 1) == []
    smaller = picture("c", right[:3])
    assert found([Case("a", one.images, (one.label, smaller.label), "a")], [0, 1]) == [("a", "GRID_MISMATCH")]


def test_an_npz_with_other_slices_than_its_series_is_named(tmp_path):
    array = np.random.default_rng(1).integers(-1000, 900, (6, 6, 4)).astype(np.int16)
    cases = []
    for name, slices in (("p1", 4), ("p2", 3), ("p3", 6)):
        write_ct_series(array, np.diag([-1.0, -1, 2, 1]), tmp_path / name, seed_uid=name)
        np.savez(tmp_path / f"{name}.npz", np.ones((slices, 6, 6), np.uint8))
        cases.append(Case(name, (str(tmp_path / name),), str(tmp_path / f"{name}.npz"), name))
    assert found(cases, [0, 1], 1) == [("p2", "SLICES_DIFFER"), ("p3", "SLICES_DIFFER")]


def test_each_case_is_told_once_and_few_are_read_at_a_time(pair, monkeypatch):
    cases, told, at_once, most = [pair(f"c{n}") for n in range(8)], [], 0, 0
    lock = threading.Lock()
    real = check_pairs.__globals__["read_case"]

    def counted(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            return real(*arguments)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr("medseg.checking.usable_pairs.read_case", counted)
    check_pairs(cases, on_case=lambda case, count: told.append((case, count)))
    assert told == [(f"c{n}", 8) for n in range(8)]
    assert most <= 2


def test_an_image_of_other_axes_than_wanted_is_found(pair, picture):
    cases = [pair("a"), picture("b", np.eye(4, 5))]
    assert found(cases, [0, 1], 1) == []
    for axes, expected in ((3, ("b", "IMAGE_NOT_3D")), (2, ("a", "IMAGE_NOT_2D"))):
        assert [(each.case, each.code) for each in check_pairs(cases, [0, 1], 1, axes=axes)] == [expected]
    with pytest.raises(DatasetError, match="IMAGE_NOT_3D"):
        require_usable(cases, [0, 1], 1, axes=3)
