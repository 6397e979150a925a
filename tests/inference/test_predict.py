import json
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import nibabel
import numpy as np
import pytest

import medseg
from medseg.errors import BundleError, DatasetError, OutputError, UsageError
from medseg.inference.predict import in_turn, overlapped
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti
from tests.dicom_folders import edit, save_all, slices, uid


@pytest.fixture
def scans(tmp_path):
    """Two scans in different folders and formats, one cut short."""
    folder = tmp_path / "scans"
    save_nifti(ball(1)[0], folder / "a.nii.gz")
    save_nifti(ball(2)[0], folder / "deep" / "er" / "b.nii")
    broken = save_nifti(ball(3)[0], folder / "c.nii.gz")
    broken.write_bytes(broken.read_bytes()[:2000])
    return folder


def record_of(folder):
    return json.loads((folder / "predictions.json").read_text())


def test_every_readable_case_has_a_mask_of_its_name_and_the_rest_an_error(tiny_bundle, scans, tmp_path):
    told = []
    made = medseg.predict(tiny_bundle, scans, tmp_path / "out", on_case=lambda record, total: told.append(total))
    assert (tmp_path / "out" / "a.nii.gz").is_file()
    assert (tmp_path / "out" / "deep" / "er" / "b.nii").is_file()
    assert not (tmp_path / "out" / "c.nii.gz").exists()
    assert [record.case for record in made.failed] == ["c"]
    assert made.failed[0].error["code"] == "IMAGE_TRUNCATED"
    assert made.exit_code == 1
    assert told == [3, 3, 3]


def test_the_record_says_what_was_run_on_what(tiny_bundle, scans, tmp_path):
    medseg.predict(tiny_bundle, scans, tmp_path / "out", options=PredictOptions(device="cpu", tta=True))
    record = record_of(tmp_path / "out")
    assert record["bundle"]["name"] == tiny_bundle.name
    assert len(record["bundle"]["weights_sha256"]) == 64
    assert record["options"]["tta"] is True
    by_case = {case["case"]: case for case in record["cases"]}
    mask = nibabel.load(tmp_path / "out" / by_case["a"]["mask"])
    assert by_case["a"]["volumes_ml"]["ball"] == pytest.approx(np.count_nonzero(mask.dataobj) / 1000, abs=1e-3)
    assert by_case["c"]["error"]["code"] == "IMAGE_TRUNCATED"


def test_masks_are_the_same_bytes_each_time(tiny_bundle, scans, tmp_path):
    for name in ("first", "second"):
        medseg.predict(tiny_bundle, scans, tmp_path / name)
    assert (tmp_path / "first" / "a.nii.gz").read_bytes() == (tmp_path / "second" / "a.nii.gz").read_bytes()


def test_probabilities_lie_beside_the_mask(tiny_bundle, scans, tmp_path):
    medseg.predict(tiny_bundle, scans / "a.nii.gz", tmp_path / "out", options=PredictOptions(probabilities=True))
    assert nibabel.load(tmp_path / "out" / "a_probabilities.nii.gz").shape == (20, 18, 16, 2)


def test_names_that_differ_only_in_suffix_both_get_a_mask(tiny_bundle, tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        save_nifti(ball(1)[0], tmp_path / "scans" / name)
    made = medseg.predict(tiny_bundle, tmp_path / "scans", tmp_path / "out")
    assert len({record.mask for record in made.records}) == 2
    assert not made.failed


def test_an_image_is_never_overwritten(tiny_bundle, scans):
    before = (scans / "a.nii.gz").read_bytes()
    with pytest.raises(OutputError, match="OUTPUT_COLLISION"):
        medseg.predict(tiny_bundle, scans, scans)
    assert (scans / "a.nii.gz").read_bytes() == before


def test_an_empty_folder_is_an_error_not_a_success(tiny_bundle, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="NO_CASES"):
        medseg.predict(tiny_bundle, tmp_path / "none", tmp_path / "out")


def test_a_missing_input_is_an_error(tiny_bundle, tmp_path):
    with pytest.raises(DatasetError, match="NOT_FOUND"):
        medseg.predict(tiny_bundle, tmp_path / "nowhere", tmp_path / "out")


def test_a_refused_bundle_makes_no_output(scans, tmp_path):
    with pytest.raises(BundleError):
        medseg.predict(tmp_path / "no_bundle", scans, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_found_before_work(tiny_bundle, scans, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        medseg.predict(tiny_bundle, scans, locked / "out")


def test_an_output_below_a_file_is_found_before_work(tiny_bundle, scans, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        medseg.predict(tiny_bundle, scans, tmp_path / "file" / "out")


def test_a_file_that_no_prediction_made_is_never_replaced(tiny_bundle, scans, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nii.gz").write_bytes(b"drawn by hand")
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        medseg.predict(tiny_bundle, scans, tmp_path / "labels")
    assert (tmp_path / "labels" / "a.nii.gz").read_bytes() == b"drawn by hand"


def test_a_case_that_fails_leaves_no_mask_of_an_earlier_run(tiny_bundle, scans, tmp_path):
    medseg.predict(tiny_bundle, scans, tmp_path / "out")
    (scans / "a.nii.gz").write_bytes(b"")
    made = medseg.predict(tiny_bundle, scans, tmp_path / "out")
    assert {record.case for record in made.failed} == {"a", "c"}
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    assert (tmp_path / "out" / "deep" / "er" / "b.nii").exists()


def test_probabilities_of_an_earlier_run_go_with_its_mask(tiny_bundle, scans, tmp_path):
    for is_asked_for in (True, False):
        options = PredictOptions(probabilities=is_asked_for)
        medseg.predict(tiny_bundle, scans / "a.nii.gz", tmp_path / "out", options=options)
        assert (tmp_path / "out" / "a_probabilities.nii.gz").exists() == is_asked_for


def test_probabilities_that_are_none_of_ours_are_not_overwritten(tiny_bundle, scans, tmp_path):
    foreign = tmp_path / "out" / "a_probabilities.nii.gz"
    foreign.parent.mkdir()
    foreign.write_text("someone's")
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        medseg.predict(tiny_bundle, scans / "a.nii.gz", tmp_path / "out", options=PredictOptions(probabilities=True))
    assert foreign.read_text() == "someone's"


def test_probabilities_never_share_a_file_with_a_mask(tiny_bundle, tmp_path):
    for name in ("a", "a_probabilities"):
        save_nifti(ball(1)[0], tmp_path / "scans" / f"{name}.nii.gz")
    with pytest.raises(OutputError, match="OUTPUT_COLLISION"):
        medseg.predict(tiny_bundle, tmp_path / "scans", tmp_path / "out", options=PredictOptions(probabilities=True))


def test_a_record_that_cannot_be_read_is_not_passed_over(tiny_bundle, scans, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("{")
    with pytest.raises(OutputError, match="OUTPUT_RECORD_UNREADABLE"):
        medseg.predict(tiny_bundle, scans, tmp_path / "out")


def scan_in(folder, seed, name):
    save_nifti(ball(seed)[0], folder / f"{name}.nii.gz")
    return folder


def test_a_second_run_keeps_the_records_of_masks_that_are_still_there(tiny_bundle, tmp_path):
    first, second, out = scan_in(tmp_path / "one", 1, "a"), scan_in(tmp_path / "two", 2, "b"), tmp_path / "out"
    scan_in(first, 3, "gone")
    medseg.predict(tiny_bundle, first, out, options=PredictOptions(overlap=0.5))
    before = {case["case"]: case for case in record_of(out)["cases"]}
    (out / "gone.nii.gz").unlink()
    medseg.predict(tiny_bundle, second, out)
    record = record_of(out)
    kept, made = record["cases"]
    assert (kept.pop("options")["overlap"], record["options"]["overlap"]) == (0.5, None)
    assert (kept, made["case"]) == (before["a"], "b")
    medseg.predict(tiny_bundle, first / "a.nii.gz", out)
    assert [case["case"] for case in record_of(out)["cases"]] == ["b", "a"]
    assert all("options" not in case and "bundle" not in case for case in record_of(out)["cases"])


def test_a_kept_record_names_the_weights_that_made_its_mask(tiny_bundle, tmp_path):
    first, second, out = scan_in(tmp_path / "one", 1, "a"), scan_in(tmp_path / "two", 2, "b"), tmp_path / "out"
    medseg.predict(tiny_bundle, first, out)
    path = out / "predictions.json"
    record = record_of(out)
    record["bundle"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    medseg.predict(tiny_bundle, second, out)
    kept, made = record_of(out)["cases"]
    assert kept["bundle"] == record["bundle"]
    assert "bundle" not in made


def test_masks_of_other_labels_do_not_stay_beside_new_ones(tiny_bundle, tmp_path):
    first, second, out = scan_in(tmp_path / "one", 1, "a"), scan_in(tmp_path / "two", 2, "b"), tmp_path / "out"
    medseg.predict(tiny_bundle, first, out)
    (out / "predictions.json").write_text(json.dumps({**record_of(out), "labels": {"0": "background", "1": "liver"}}))
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        medseg.predict(tiny_bundle, second, out)
    assert medseg.predict(tiny_bundle, first, out).exit_code == 0


def test_masks_are_not_put_among_the_images(tiny_bundle, scans):
    with pytest.raises(OutputError, match="OUTPUT_INSIDE_INPUT"):
        medseg.predict(tiny_bundle, scans, scans / "masks")
    assert not (scans / "masks").exists()


class TestSeveralSeries:
    @pytest.fixture
    def mixed(self, tmp_path):
        """Two series in one folder, of 6 and of 3 slices."""
        second = {"SeriesInstanceUID": uid("second"), "SeriesNumber": 8}
        short = [edit(data, SOPInstanceUID=uid(f"second {n}"), **second) for n, data in enumerate(slices(3))]
        save_all([*slices(), *short], tmp_path / "mixed" / "case")
        return tmp_path / "mixed"

    def test_a_folder_of_several_series_is_refused_with_their_list(self, tiny_bundle, mixed, tmp_path):
        made = medseg.predict(tiny_bundle, mixed, tmp_path / "out")
        assert [record.error["code"] for record in made.failed] == ["DICOM_SEVERAL_SERIES"]

    @pytest.mark.parametrize(("series", "depth"), [("3", 6), ("8", 3), (uid("second")[-12:], 3)])
    def test_the_series_that_is_named_is_segmented_under_the_folder_s_name(
        self, tiny_bundle, mixed, tmp_path, series, depth
    ):
        medseg.predict(tiny_bundle, mixed, tmp_path / "out", options=PredictOptions(series=series))
        (mask,) = (tmp_path / "out").rglob("*.nii.gz")
        assert mask.name == "case.nii.gz"
        assert nibabel.load(mask).shape[2] == depth
        assert record_of(tmp_path / "out")["options"]["series"] == series

    def test_a_series_may_be_named_in_the_path(self, tiny_bundle, mixed, tmp_path):
        made = medseg.predict(tiny_bundle, f"{mixed / 'case'}#series=8", tmp_path / "out")
        assert made.exit_code == 0
        assert nibabel.load(tmp_path / "out" / made.records[0].mask).shape[2] == 3

    @pytest.mark.parametrize("series", ["", "x", "3/../4"])
    def test_what_is_no_number_and_no_uid_names_no_series(self, series):
        with pytest.raises(UsageError, match="SETTING_INVALID"):
            PredictOptions(series=series)


class TestMemory:
    def test_an_image_beyond_the_budget_is_refused_and_the_others_go_on(self, tiny_bundle, tmp_path):
        save_nifti(ball(1)[0], tmp_path / "scans" / "a.nii.gz")
        save_nifti(np.zeros((300, 300, 300), np.uint8), tmp_path / "scans" / "b.nii.gz")
        made = medseg.predict(
            tiny_bundle, tmp_path / "scans", tmp_path / "out", options=PredictOptions(max_ram=60_000_000)
        )
        assert [(record.case, record.error["code"]) for record in made.failed] == [("b", "MEMORY_BUDGET")]

    def test_no_memory_at_all_is_no_budget(self):
        with pytest.raises(UsageError, match="SETTING_INVALID"):
            PredictOptions(max_ram=0)


@pytest.mark.parametrize("stepped", [overlapped, in_turn])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_item_goes_through_all_steps_in_order(stepped, count):
    done = []
    stepped(range(count), lambda n: n * 10, lambda n, read: (n, read), lambda n, made: [n, *made], done.append)
    assert done == [[n, n, n * 10] for n in range(count)]


def test_the_next_item_is_read_and_the_one_before_written_while_one_is_run():
    reading, writing = threading.Event(), threading.Event()

    def read(item):
        if item == 2:
            reading.set()

    def run(item, _):
        if item == 1:
            assert reading.wait(10)
            assert writing.wait(10)

    def write(item, _):
        if item == 0:
            writing.set()

    overlapped([0, 1, 2], read, run, write, lambda _: None)


def test_only_one_item_waits_before_and_behind():
    reads, runs = [], []

    def run(item, _):
        assert len(reads) <= item + 2
        runs.append(item)

    overlapped(range(6), reads.append, run, lambda item, _: None, lambda _: None)
    assert runs == list(range(6))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_what_is_being_written_is_told_of_when_the_run_is_interrupted(interruption):
    done = []

    def run(item, _):
        if item == 1:
            raise interruption

    with pytest.raises(interruption):
        overlapped([0, 1, 2], lambda item: item, run, lambda item, _: item, done.append)
    assert done == [0]


def test_what_was_written_is_told_of_when_the_wait_for_it_is_interrupted(monkeypatch):
    done, interrupts = [], [KeyboardInterrupt]
    result = Future.result

    def interrupted(future, timeout=None):
        if future.written and interrupts:
            raise interrupts.pop()
        return result(future, timeout)

    submit = ThreadPoolExecutor.submit

    def marked(pool, *work):
        future = submit(pool, *work)
        future.written = pool._thread_name_prefix == "write"
        return future

    monkeypatch.setattr(Future, "result", interrupted)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", marked)
    with pytest.raises(KeyboardInterrupt):
        overlapped([0, 1, 2], lambda item: item, lambda item, _: item, lambda item, _: item, done.append)
    assert done == [0]
