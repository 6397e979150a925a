"""Results of two revisions: what has to be equal, what may differ, and that a fault of every kind is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage, generate_uid

from tools.golden_compare import COMPARERS, SCORE_TOLERANCE, Rules, compare_arrays, differences
from tools.golden_faults import SPOILERS, plant


def save_mask(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), path)


def save_seg(path: Path) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SegmentationStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 4, 6, 2
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(range(48))
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def results(tmp_path) -> Path:
    """A file of every kind that is compared."""
    folder = tmp_path / "old"
    (folder / "masks").mkdir(parents=True)
    save_mask(folder / "masks" / "a.nii.gz", np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3)
    np.savez(folder / "arrays.npz", values=np.arange(5.0))
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6)).save(folder / "picture.png")
    save_seg(folder / "seg.dcm")
    record = {"seconds": 1.5, "started": "2026-01-01", "dice": 0.5, "cases": ["a"], "folder": str(folder)}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "cases.csv").write_text("case,dice,seconds\na,0.25,3\n")
    (folder / "page.html").write_text('<img src="data:image/png;base64,AAAA"> 0.25 in 3.2 s')
    (folder / "said_1.txt").write_text("medseg predict\nexit code 0\n1 of 1 masks (3.1 s)\n")
    return folder


@pytest.fixture
def again(results, tmp_path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "new"))


def test_the_same_results_have_no_differences(results, again):
    assert list(differences(results, again, Rules())) == []


def test_times_dates_uids_paths_and_pictures_in_pages_are_left_out(results, again):
    record = {"seconds": 99, "started": "2027-02-02", "dice": 0.5, "cases": ["a"], "folder": str(again)}
    (again / "record.json").write_text(json.dumps(record))
    (again / "cases.csv").write_text("case,dice,seconds\na,0.25,88\n")
    (again / "page.html").write_text('<img src="data:image/png;base64,BBBB"> 0.25 in 77 s')
    save_seg(again / "seg.dcm")
    assert list(differences(results, again, Rules(folders=(str(results), str(again))))) == []


@pytest.mark.parametrize("pattern", SPOILERS)
def test_a_planted_fault_of_every_kind_is_seen(results, tmp_path, pattern):
    seen = {}
    for fault in plant(results, tmp_path / "copy"):
        seen[fault] = list(differences(results, tmp_path / "copy", Rules(scores_may_round=True)))
    named = [fault for fault in seen if fault.startswith(SPOILERS[pattern].__name__)]
    assert named
    assert all(seen[fault] for fault in named)


def test_a_planted_fault_in_compressed_pixels_is_seen(tmp_path):
    (tmp_path / "old").mkdir()
    save_seg(tmp_path / "old" / "seg.dcm")
    dataset = dcmread(tmp_path / "old" / "seg.dcm")
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "old" / "seg.dcm")
    faults = plant(tmp_path / "old", tmp_path / "copy")
    assert next(faults) == "change_a_frame in seg.dcm"
    assert list(differences(tmp_path / "old", tmp_path / "copy", Rules()))


def test_each_comparer_has_a_file_and_a_fault(results):
    import re

    names = [path.name for path in results.rglob("*") if path.is_file()]
    assert all(any(re.search(pattern, name) for name in names) for pattern in COMPARERS)


def test_renamed_codes_are_the_same_and_others_are_not(results, again):
    (results / "said_1.txt").write_text("EARLIER_NAME: quantum")
    (again / "said_1.txt").write_text("LATER_NAME: quantum")
    assert list(differences(results, again, Rules(renamed={"EARLIER_NAME": "LATER_NAME"}))) == []
    assert len(list(differences(results, again, Rules()))) == 1


def test_masks_may_differ_only_where_the_best_scores_are_as_good_as_equal(results, again):
    scores = np.zeros((2, 3, 4, 3), np.float32)
    scores[..., 0] = 1
    scores[0, 0, 0] = 0.4, 0.4 + SCORE_TOLERANCE / 2, 0.2
    for folder in (results, again):
        save_mask(folder / "masks" / "a_probabilities.nii.gz", scores)
    mask = np.asarray(nibabel.load(results / "masks" / "a.nii.gz").dataobj).copy()
    mask[0, 0, 0] += 1
    save_mask(again / "masks" / "a.nii.gz", mask)
    assert len(list(differences(results, again, Rules()))) == 1
    assert list(differences(results, again, Rules(scores_may_round=True))) == []
    mask[1, 1, 1] += 1
    save_mask(again / "masks" / "a.nii.gz", mask)
    assert len(list(differences(results, again, Rules(scores_may_round=True)))) == 1


def test_probabilities_may_differ_by_the_tolerance_and_no_more(results, again):
    scores = np.full((2, 3, 4, 2), 0.5, np.float32)
    name = Path("masks", "a_probabilities.nii.gz")
    save_mask(results / name, scores)
    save_mask(again / name, scores + np.float32(SCORE_TOLERANCE / 2))
    assert list(differences(results, again, Rules(scores_may_round=True))) == []
    assert len(list(differences(results, again, Rules()))) == 1
    save_mask(again / name, scores + np.float32(SCORE_TOLERANCE * 3))
    assert len(list(differences(results, again, Rules(scores_may_round=True)))) == 1


def test_arrays_of_other_shapes_and_nan_at_other_places_differ():
    assert list(compare_arrays(np.zeros((2, 3)), np.zeros((3, 2)))) == ["shape (2, 3) is (3, 2)"]
    assert list(compare_arrays(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))) == []
    assert list(compare_arrays(np.array([np.nan, 1.0]), np.array([1.0, 1.0]))) == ["1 of 2 values differ"]
