"""From DICOM to DICOM: predicted, judged and trained on, all with segmentations in place of NIfTI."""

import json
import shutil
import warnings

import numpy as np
import pydicom
import pytest

import medseg
from medseg.cli import main
from medseg.data.cases import open_dataset
from medseg.data.read import read, read_mask
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import UsageError
from medseg.options import PredictOptions, TrainOptions
from medseg.training.train import train
from tests.conftest import ball, save_nifti
from tests.dicom_segs import headers, make_seg, segment

SEG = PredictOptions(mask_format="dicom-seg")
AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def ball_series(folder, seed):
    """A CT of a ball in ``folder``, and where it is, (X, Y, Z) of the series' grid."""
    image, mask = ball(seed)
    write_ct_series(image.astype(np.int16), AFFINE, folder, seed_uid=f"ball {seed}")
    return mask


@pytest.fixture
def scans(tmp_path):
    for seed in (1, 2):
        ball_series(tmp_path / "scans" / f"case{seed}", seed)
    return tmp_path / "scans"


def record_of(folder):
    return json.loads((folder / "predictions.json").read_text())


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_predicted_segmentation_holds_the_mask_that_nifti_holds(tiny_bundle, scans, tmp_path, kind):
    options = PredictOptions(mask_format="dicom-seg", seg_type=kind)
    made = medseg.predict(tiny_bundle, scans, tmp_path / "seg", options=options)
    medseg.predict(tiny_bundle, scans, tmp_path / "nii")
    assert [record.mask for record in made.records] == ["case1.dcm", "case2.dcm"]
    for case in ("case1", "case2"):
        seg, nii = read_mask(tmp_path / "seg" / f"{case}.dcm"), read_mask(tmp_path / "nii" / f"{case}.nii.gz")
        np.testing.assert_array_equal(seg.array, nii.array)
        np.testing.assert_allclose(seg.affine, nii.affine, atol=1e-4)
        data_set = pydicom.dcmread(tmp_path / "seg" / f"{case}.dcm")
        assert data_set.SegmentSequence[-1].SegmentLabel == "ball"
        assert data_set.SegmentationType == kind.upper()
        assert data_set.StudyInstanceUID == headers(scans / case)[0].StudyInstanceUID


def test_a_repeated_run_replaces_its_own_segmentations_and_no_others(tiny_bundle, scans, tmp_path):
    medseg.predict(tiny_bundle, scans, tmp_path / "out", options=SEG)
    first = pydicom.dcmread(tmp_path / "out" / "case1.dcm").SOPInstanceUID
    assert medseg.predict(tiny_bundle, scans, tmp_path / "out", options=SEG).exit_code == 0
    assert pydicom.dcmread(tmp_path / "out" / "case1.dcm").SOPInstanceUID != first
    (tmp_path / "mine").mkdir()
    shutil.copy(tmp_path / "out" / "case1.dcm", tmp_path / "mine")
    assert main(["predict", str(tiny_bundle), str(scans), str(tmp_path / "mine"), "--format", "dicom-seg"]) == 5


def test_probabilities_lie_beside_the_segmentation(tiny_bundle, scans, tmp_path):
    options = PredictOptions(mask_format="dicom-seg", probabilities=True)
    medseg.predict(tiny_bundle, scans / "case1", tmp_path / "out", options=options)
    assert sorted(path.name for path in (tmp_path / "out").glob("case1*")) == [
        "case1.dcm",
        "case1_probabilities.nii.gz",
    ]


def test_images_that_are_no_dicom_cannot_have_one(tiny_bundle, scans, tmp_path, capsys):
    save_nifti(ball(1)[0], scans / "plain.nii.gz")
    with pytest.raises(UsageError, match="FORMAT_NEEDS_DICOM.*plain"):
        medseg.predict(tiny_bundle, scans, tmp_path / "out", options=SEG)
    words = ["predict", str(tiny_bundle), str(scans), str(tmp_path / "out"), "--format", "dicom-seg"]
    assert main(words) == 2
    assert not (tmp_path / "out" / "case1.dcm").exists()
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        PredictOptions(seg_type="labelmap")


def test_a_series_that_nothing_can_refer_to_fails_alone(tiny_bundle, scans, tmp_path):
    for path in (scans / "case1").iterdir():
        data_set = pydicom.dcmread(path)
        del data_set.FrameOfReferenceUID
        data_set.save_as(path)
    made = medseg.predict(tiny_bundle, scans, tmp_path / "out", options=SEG)
    assert [(record.case, record.error["code"]) for record in made.failed] == [("case1", "SEG_SOURCE")]
    assert (tmp_path / "out" / "case2.dcm").is_file()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # The test itself reads and writes them.
def test_no_text_of_a_header_leaves_the_dicom_objects(tiny_bundle, scans, tmp_path, capfd):
    odd = {"PatientName": "Canarymüller", "PatientID": "CANARY2", "SeriesDescription": "CANARY3", "StudyID": "CANARY4"}
    odd |= {
        "PatientBirthDate": "CANARY5",
        "StudyTime": "CANARY6",
        "PatientAge": "CANARY7",
        "PatientComments": "CANARY8",
    }
    for path in (scans / "case1").iterdir():
        data_set = pydicom.dcmread(path)
        data_set.SpecificCharacterSet = "ISO_IR 100"
        for keyword, value in odd.items():
            setattr(data_set, keyword, value)
        data_set.save_as(path)
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main(["predict", str(tiny_bundle), str(scans), str(tmp_path / "out"), "--format", "dicom-seg"]) == 0
    assert "canary" not in "".join([*(str(each.message) for each in told), *capfd.readouterr()]).lower()
    assert "canary" not in (tmp_path / "out" / "predictions.json").read_text().lower()
    assert not [path for path in (tmp_path / "out").iterdir() if "canary" in path.name.lower()]
    made = pydicom.dcmread(tmp_path / "out" / "case1.dcm")
    assert str(made.PatientName) == "Canarymüller"
    assert made.PatientID == "CANARY2"
    assert "CANARY" not in made.SeriesDescription


@pytest.fixture
def drawn(tmp_path):
    """Four series of balls, each a segment of number 2 but called as the bundle calls its label 1."""
    for seed in range(4):
        mask = ball_series(tmp_path / "data" / f"case{seed}", seed)
        planes = np.ascontiguousarray(mask.transpose(2, 1, 0))
        segments = [segment(1, "table"), segment(2, "ball")]
        make_seg(tmp_path / "data" / f"case{seed}", planes * 2, tmp_path / "made", segments=segments)
        shutil.move(tmp_path / "made", tmp_path / "data" / f"case{seed}" / "seg.dcm")
    return tmp_path / "data"


def test_segmentations_are_judged_against_segmentations_by_name(tiny_bundle, drawn, tmp_path):
    medseg.predict(tiny_bundle, drawn, tmp_path / "out", options=SEG)
    medseg.predict(tiny_bundle, drawn, tmp_path / "nii")
    found = medseg.evaluate(tmp_path / "out", drawn, progress=False)
    for case in open_dataset(drawn).cases:
        save_nifti((read_mask(case.label).array == 2).astype(np.uint8), tmp_path / "ref" / f"{case.id}.nii.gz",
                   read(case.images[0]).affine)  # fmt: skip
    expected = medseg.evaluate(tmp_path / "nii", tmp_path / "ref", progress=False)
    assert not found.errors
    assert len({row.case for row in found.rows}) == 4
    scores = [(row.case, row.value, row.scores["dice"]) for row in found.rows]
    assert scores == [(row.case, row.value, row.scores["dice"]) for row in expected.rows]


def test_a_bundle_is_trained_on_segmentations(tiny_bundle, drawn, tmp_path):
    train(tiny_bundle, drawn, tmp_path / "run", options=TrainOptions(epochs=1))
    assert (tmp_path / "run" / "models" / "model.pt").is_file()
