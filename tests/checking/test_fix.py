"""The corrected copy: certain faults are gone, all else is as it was, and the original is untouched."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import medseg
from medseg.data.cases import open_dataset
from medseg.data.deshear import deshear, is_sheared
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import OutputError
from medseg.findings import CODES
from medseg.geometry import is_same_grid
from tests.checking.conftest import AFFINE, SHAPE, Scans, image_of, mask_of, save
from tests.checking.triggers import flipped, moved, one_hot, pictures, square

FAULTS = {
    "GRID_NEAR": lambda scans, n: scans.set_label(n, mask_of(n), moved(0.05)),
    "GRID_REINDEXED": lambda scans, n: scans.set_label(n, mask_of(n)[::-1], flipped(0)),
    "LABEL_NEARLY_WHOLE": lambda scans, n: scans.set_label(n, mask_of(n) * np.float32(0.9998)),
    "LABEL_ONE_HOT": lambda scans, n: scans.set_label(n, one_hot(mask_of(n))),
    "SUFFIX_WRONG": lambda scans, n: scans.label(n).write_bytes(gzip.decompress(scans.label(n).read_bytes())),
    "turned and rounded": lambda scans, n: scans.set_label(n, (mask_of(n) * 1.0001)[:, ::-1], flipped(1)),
    "near and one-hot": lambda scans, n: scans.set_label(n, one_hot(mask_of(n)) * 0.9995, moved(0.02)),
    "elsewhere": lambda scans, n: scans.set_label(n, mask_of(n), moved(3)),
    "half": lambda scans, n: scans.set_label(n, mask_of(n) + np.float32(0.4)),
    "empty": lambda scans, n: scans.set_label(n, np.zeros(SHAPE, np.uint8)),
    "fewer slices": lambda scans, n: scans.set_label(n, mask_of(n)[:, :, :9]),
    "no image": lambda scans, n: scans.image(n).write_bytes(b"no image"),
    "negative": lambda scans, n: scans.set_label(n, mask_of(n).astype(np.int16) - 1),
}
UNCERTAIN = {"elsewhere": "GRID_MISMATCH", "half": "LABEL_NOT_INTEGER", "fewer slices": "SHAPE_MISMATCH"}


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def clean(root):
    made = Scans(root)
    for number in range(3):
        made.set_image(number, image_of(number))
        made.set_label(number, mask_of(number))
    pairs = [{"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz"} for n in range(3)]
    made.describe(training=pairs)
    return made


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from(["none", *FAULTS]), min_size=3, max_size=3))
def test_a_corrected_copy_has_nothing_left_to_correct(faults, tmp_path_factory):
    root = tmp_path_factory.mktemp("fix")
    scans = clean(root / "data")
    for number, fault in enumerate(faults):
        FAULTS.get(fault, lambda scans, n: None)(scans, number)
    before = digests(scans.root)
    report = scans.check(fix=root / "out")
    assert digests(scans.root) == before
    kept = [n for n, fault in enumerate(faults) if fault != "no image"]
    assert (report.copy.cases, report.copy.left_out) == (len(kept), 3 - len(kept))
    if not kept:
        return
    again = medseg.check(root / "out")
    assert [finding for finding in again.findings if finding.is_fixable] == []
    for number, case in zip(kept, open_dataset(root / "out").cases, strict=True):
        assert case.id == f"c{number}"
        if faults[number] not in ("elsewhere", "half", "empty", "fewer slices", "negative"):
            mask = read_mask(case.label)
            assert np.array_equal(mask.array, mask_of(number))
            assert np.allclose(mask.affine, AFFINE, atol=1e-4)
        if faults[number] in UNCERTAIN:
            assert UNCERTAIN[faults[number]] in {each.code for each in again.findings if each.case == case.id}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault in CODES])
def test_the_log_says_what_was_done_and_what_was_left(fault, tmp_path):
    scans = clean(tmp_path / "data")
    FAULTS[fault](scans, 0)
    FAULTS["elsewhere"](scans, 1)
    report = scans.check(fix=tmp_path / "out")
    log = json.loads((tmp_path / "out" / "fix_log.json").read_text())
    first, second, third = log["cases"]
    assert [each["code"] for each in first["fixed"]] == [fault]
    assert ([each["code"] for each in second["left"]], second["fixed"]) == (["GRID_MISMATCH"], [])
    assert (third["fixed"], third["left"], third["left_out"]) == ([], [], "")
    assert all((tmp_path / "out" / name).is_file() for each in log["cases"] for name in each["files"])
    assert (report.copy.cases, report.copy.changed, report.copy.with_errors) == (3, 1, 1)


def test_clean_data_are_copied_byte_by_byte(tmp_path):
    scans = clean(tmp_path / "data")
    report = scans.check(fix=tmp_path / "out")
    copied, original = digests(tmp_path / "out"), digests(scans.root)
    assert {path: copied[path] for path in original if path.name != "dataset.json"} == {
        path: digest for path, digest in original.items() if path.name != "dataset.json"
    }
    assert report.copy.changed == 0
    opened, before = open_dataset(tmp_path / "out"), open_dataset(scans.root)
    assert (opened.labels, opened.channels) == (before.labels, before.channels)


def test_white_masks_become_ones_and_other_pictures_stay(scans, tmp_path):
    pictures(scans, [square(255), square(255, 90), square(1)])
    report = scans.check(fix=tmp_path / "out")
    assert "LABEL_MAPPED" not in {finding.code for finding in report.findings}
    assert report.copy.changed == 1
    pictures(scans, [square(255), square(255, 90), square(255)[::-1]])
    scans.check(fix=tmp_path / "other")
    cases = open_dataset(tmp_path / "other").cases
    stored = [set(np.unique(read(case.label).array)) for case in cases]
    assert stored == [{0, 1}, {0, 1}, {0, 1}]
    assert np.array_equal(read(cases[1].label).array.T, square(1))
    assert np.array_equal(read(cases[0].label).array.T, square(1))


def test_pages_of_a_stack_become_pictures(tmp_path):
    (tmp_path / "em").mkdir()
    pages = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    labels = np.where(pages > 200, 255, 0).astype(np.uint8)
    for name, array in (("train-volume", pages), ("train-labels", labels)):
        first, *rest = [Image.fromarray(page) for page in array]
        first.save(tmp_path / "em" / f"{name}.tif", save_all=True, append_images=rest)
    medseg.check(tmp_path / "em", fix=tmp_path / "out")
    for page, case in enumerate(open_dataset(tmp_path / "out").cases):
        assert np.array_equal(read(case.images[0]).array.T, pages[page])
        assert np.array_equal(read_mask(case.label).array.T, labels[page] == 255)


def test_several_channels_keep_their_order(tmp_path):
    root = tmp_path / "data"
    for number in range(2):
        for channel in range(2):
            save(image_of(10 * number + channel), root / "imagesTr" / f"c{number}_{channel:04d}.nii.gz")
        save(mask_of(number) * np.float32(0.9999), root / "labelsTr" / f"c{number}.nii.gz")
    medseg.check(root, fix=tmp_path / "out")
    second = open_dataset(tmp_path / "out").cases[1]
    assert [read(path).array.tolist() for path in second.images] == [image_of(10).tolist(), image_of(11).tolist()]


def test_images_without_a_mask_are_left_out_and_logged(scans, tmp_path):
    scans.undescribe()
    scans.label(2).unlink()
    assert scans.check(fix=tmp_path / "out").copy.left_out == 1
    assert "c2" not in {case.id for case in open_dataset(tmp_path / "out").cases}
    log = json.loads((tmp_path / "out" / "fix_log.json").read_text())
    assert [each["case"] for each in log["cases"] if each["left_out"]] == ["c2"]


@pytest.mark.parametrize(
    ("place", "code"),
    [("scans/out", "OUTPUT_INSIDE_INPUT"), ("scans", "OUTPUT_INSIDE_INPUT"), ("full", "OUTPUT_EXISTS")],
)
def test_a_folder_that_holds_something_is_refused(place, code, scans, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(OutputError, match=code):
        scans.check(fix=tmp_path / place)
    assert digests(tmp_path) == before


def test_each_case_of_the_copy_is_told(scans, tmp_path):
    told = []
    scans.check(fix=tmp_path / "out", on_copied=lambda case, total: told.append((case, total)))
    assert told == [(f"c{n}", 6) for n in range(6)]


SHEARED = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def shear(scans, number, rounding_mm=0.0):
    """Give a case's image and mask a sheared grid, the mask's rounded a little differently."""
    rounded = SHEARED.copy()
    rounded[:3, :3] += rounding_mm * np.array([[1, -1, 1], [-1, 1, 1], [1, 1, -1]]) / 10
    scans.set_image(number, image_of(number), SHEARED)
    scans.set_label(number, mask_of(number), rounded)


def log_of(folder):
    return json.loads((folder / "fix_log.json").read_text())["cases"]


@pytest.mark.parametrize("rounding_mm", [0.0, 1e-5, 0.004])
def test_a_sheared_case_is_straightened_with_its_mask_and_the_log_says_from_what_to_what(rounding_mm, tmp_path):
    scans = clean(tmp_path / "data")
    shear(scans, 1, rounding_mm)
    report = scans.check(fix=tmp_path / "out", straighten=True)
    assert ("GRID_NEAR" in {each.code for each in report.findings}) == (rounding_mm > 0.001)
    assert (report.copy.straightened, report.copy.changed, report.copy.left_out) == (1, 1, 0)
    case = open_dataset(tmp_path / "out").cases[1]
    image, mask = read(case.images[0]), read_mask(case.label)
    expected = deshear(Volume(image_of(1), read(scans.image(1)).affine))
    assert np.array_equal(image.array, expected.array)
    assert image.array.shape == mask.array.shape
    assert np.array_equal(image.affine, mask.affine)
    assert not is_sheared(image.affine)
    assert set(np.unique(mask.array)) == {0, 1, 2}
    of_first, of_second, _ = log_of(tmp_path / "out")
    assert of_first["straightened"] is None
    assert "SHEARED_GRID" in {each["code"] for each in of_second["fixed"]}
    assert of_second["left"] == []
    told = of_second["straightened"]
    assert (told["old"]["shape"], told["new"]["shape"]) == (list(SHAPE), list(image.array.shape))
    assert np.allclose(told["old"]["affine"], SHEARED, atol=1e-5)
    assert np.allclose(told["new"]["affine"], image.affine, atol=1e-5)
    assert {each.code for each in medseg.check(tmp_path / "out").findings} <= {"SHAPE_OUTLIER"}


def test_without_being_asked_nothing_is_resampled(tmp_path):
    scans = clean(tmp_path / "data")
    shear(scans, 1)
    assert scans.check(fix=tmp_path / "out").copy.straightened == 0
    assert digests(tmp_path / "out")[Path("images/c1.nii.gz")] == digests(scans.root)[Path("images/c1.nii.gz")]
    assert [each["straightened"] for each in log_of(tmp_path / "out")] == [None] * 3


@pytest.mark.parametrize("fault", ["GRID_REINDEXED", "LABEL_NEARLY_WHOLE", "LABEL_ONE_HOT", "half"])
def test_what_else_is_wrong_with_the_mask_is_corrected_before_it_is_moved(fault, tmp_path):
    scans = clean(tmp_path / "data")
    shear(scans, 0)
    stored = {
        "GRID_REINDEXED": (mask_of(0)[::-1], SHEARED @ (np.linalg.inv(AFFINE) @ flipped(0))),
        "LABEL_NEARLY_WHOLE": (mask_of(0) * np.float32(0.9998), SHEARED),
        "LABEL_ONE_HOT": (one_hot(mask_of(0)), SHEARED),
        "half": (mask_of(0) + np.float32(0.5), SHEARED),
    }
    scans.set_label(0, *stored[fault])
    scans.check(fix=tmp_path / "out", straighten=True)
    case = open_dataset(tmp_path / "out").cases[0]
    mask = read(case.label)
    assert is_same_grid(mask.grid, read(case.images[0]).grid)
    expected = deshear(Volume(mask_of(0), SHEARED), is_mask=True).array
    if fault == "half":
        inside = deshear(Volume(np.ones(SHAPE, np.uint8), SHEARED), is_mask=True).array == 1
        assert np.array_equal(mask.array[inside], expected[inside] + np.float32(0.5))
    else:
        assert np.array_equal(mask.array, expected)


def test_image_and_mask_that_lie_apart_stay_as_they_are(tmp_path):
    scans = clean(tmp_path / "data")
    shear(scans, 0)
    apart = SHEARED.copy()
    apart[:3, 3] += 3 * AFFINE[:3, 1]
    scans.set_label(0, mask_of(0), apart)
    report = scans.check(fix=tmp_path / "out", straighten=True)
    assert (report.copy.straightened, report.copy.with_errors) == (0, 1)
    assert {"SHEARED_GRID", "GRID_MISMATCH"} <= {each["code"] for each in log_of(tmp_path / "out")[0]["left"]}


def test_channels_in_files_of_their_own_come_out_on_one_grid(tmp_path):
    root = tmp_path / "data"
    turn = np.linalg.inv(AFFINE) @ flipped(0)
    save(image_of(0), root / "imagesTr" / "c_0000.nii.gz", SHEARED)
    save(image_of(1)[::-1], root / "imagesTr" / "c_0001.nii.gz", SHEARED @ turn)
    save(mask_of(0), root / "labelsTr" / "c.nii.gz", SHEARED)
    medseg.check(root, fix=tmp_path / "out", straighten=True)
    (case,) = open_dataset(tmp_path / "out").cases
    first, second = (read(path) for path in case.images)
    assert np.array_equal(first.affine, second.affine)
    assert np.array_equal(second.array, deshear(Volume(image_of(1), SHEARED)).array)


def test_a_series_of_a_tilted_gantry_becomes_a_nifti_file(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 900, (12, 12, 5)).astype(np.int16)
    for path in write_ct_series(array, np.diag([-1.5, -1.5, 3, 1]), tmp_path / "data" / "ct", seed_uid="one"):
        header = pydicom.dcmread(path)
        place = [float(value) for value in header.ImagePositionPatient]
        header.ImagePositionPatient = [place[0], place[1] + 0.5 * place[2], place[2]]
        header.save_as(path)
    report = medseg.check(tmp_path / "data", fix=tmp_path / "out", straighten=True)
    assert "GANTRY_TILT" in {each.code for each in report.findings}
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["ct.nii.gz"]
    straight = read(tmp_path / "out" / "images" / "ct.nii.gz")
    assert np.array_equal(straight.array[:, :12, 0], array[:, :, 0])
    assert np.array_equal(straight.array[:, 4:, 4], array[:, :, 4])


def test_findings_of_no_case_stand_in_the_log_with_their_place(scans, tmp_path):
    scans.undescribe()
    scans.image(2).unlink()
    scans.check(fix=tmp_path / "out")
    log = json.loads((tmp_path / "out" / "fix_log.json").read_text())
    assert [(each["case"], each["code"]) for each in log["left_of_the_data_set"]] == [
        ("labels/c2.nii.gz", "IMAGE_MISSING")
    ]
