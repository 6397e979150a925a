import importlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.conftest import ROOT


@pytest.fixture
def module(monkeypatch):
    """Gives a module of benchmarks/, which are scripts and no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def measuring(module):
    return module("measuring")


def runs_of(measuring, **seconds):
    return [
        measuring.Run(name, repeat, value, 10.0 * repeat)
        for name, values in seconds.items()
        for repeat, value in enumerate(values, start=1)
    ]


def test_a_ratio_is_taken_within_a_round_and_then_its_median(measuring):
    ours, theirs = measuring.summarise(runs_of(measuring, ours=[1.0, 2.0, 9.0], theirs=[2.0, 8.0, 9.0]), "theirs")
    assert (ours.seconds, ours.least_seconds, ours.most_seconds) == (2.0, 1.0, 9.0)
    # Not 2 / 8, the ratio of the medians.
    assert (ours.ratio, ours.least_ratio, ours.most_ratio) == (0.5, 0.25, 1.0)
    assert (theirs.ratio, theirs.least_ratio, theirs.most_ratio) == (1.0, 1.0, 1.0)
    assert (ours.repeats, ours.peak_mib) == (3, 20.0)


def test_commands_take_turns_after_a_round_that_does_not_count(measuring, monkeypatch):
    seen = []
    monkeypatch.setattr(measuring, "run_once", lambda words: measuring.Outcome(len(words), 1.0))
    runs = measuring.run_in_turns({"a": ["a"], "b": ["b", "b"]}, repeats=2, before=seen.append)
    assert seen == ["b", "a", "a", "b", "b", "a"]
    assert [(run.command, run.repeat, run.seconds) for run in runs] == [
        ("a", 1, 1),
        ("b", 1, 2),
        ("b", 2, 2),
        ("a", 2, 1),
    ]


def test_time_and_memory_are_those_of_the_process(measuring):
    """The reader's own process may be large, and a child's peak starts at its parent's: a small one measures."""
    hold = "import time; held = b'x' * 300 * 2**20; time.sleep(0.3)"
    measure = f"""
import sys; sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from measuring import run_once
for code in ("pass", {hold!r}):
    outcome = run_once([sys.executable, "-c", code])
    print(outcome.seconds, outcome.peak_mib)
"""
    said = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True).stdout
    (_, idle_mib), (seconds, full_mib) = (map(float, line.split()) for line in said.splitlines())
    assert seconds >= 0.3
    assert 280 < full_mib - idle_mib < 330


def test_a_command_that_fails_is_no_measurement(measuring):
    with pytest.raises(measuring.CommandFailedError, match=r"ended with 3:\nout of order"):
        measuring.run_once([sys.executable, "-c", "import sys; print('out of order'); sys.exit(3)"])


def test_tables_of_the_page_come_from_the_results(module, measuring, tmp_path):
    summaries = measuring.summarise(runs_of(measuring, ours=[1.0, 1.5], theirs=[2.0, 2.0]), "theirs")
    measuring.write_rows(summaries, tmp_path / "startup.csv", measuring.circumstances())
    page = "a\n<!-- startup -->\nold\n<!-- end -->\nb\n<!-- other -->\nkept\n<!-- end -->\n"
    made = module("tables").with_tables(page, tmp_path)
    assert "| `ours` | 1.25 (1 – 1.5) | 0.625 (0.5 – 0.75) | 15 |" in made
    assert "old" not in made
    assert "<!-- other -->\nkept\n<!-- end -->" in made
    assert module("tables").with_tables(made, tmp_path) == made


def test_the_page_shows_every_table_there_is(module):
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf8")
    assert [name for name in module("tables").TABLES if f"<!-- {name} -->\n" not in page] == []


def worker_run(workers, command, repeat, seconds, growth_mib=1.0, cpu_seconds=1.0):
    times = (seconds, cpu_seconds, 0.0, 10.0 - repeat)
    return workers.WorkerRun("unet", command, repeat, *times, growth_mib, growth_mib, seconds, 100.0)


def test_a_process_tells_what_it_took_in_its_last_line(module):
    workers = module("workers")
    told = dict.fromkeys(("cpu_seconds", "label_seconds", "prepare_seconds", "growth_mib", "run_growth_mib"), 2.0)
    code = f"import json, os; print('a line'); print(json.dumps({told} | {{'seconds': float(os.environ['TAKEN'])}}))"
    runs = workers.run_workers("unet", {"a": [sys.executable, "-c", code]}, (0, 2), {"TAKEN": "7.5"})
    assert [(run.group, run.command, run.repeat, run.seconds, run.growth_mib) for run in runs] == [
        ("unet", "a", repeat, 7.5, 2.0) for repeat in (0, 1, 2)
    ]


def test_the_first_round_counts_for_nothing_but_the_first_preparation(module):
    workers = module("workers")
    seconds = {"ours": [90.0, 1.0, 2.0, 9.0], "theirs": [1.0, 2.0, 8.0, 9.0]}
    runs = [worker_run(workers, name, repeat, value) for name, of in seconds.items() for repeat, value in enumerate(of)]
    ours, theirs = workers.summarise_workers(runs, "theirs", "wall")
    assert (ours.repeats, ours.seconds, ours.least_seconds, ours.most_seconds) == (3, 2.0, 1.0, 9.0)
    assert (ours.speed, ours.least_speed, ours.most_speed) == (2.0, 1.0, 4.0)
    assert (ours.prepare_seconds, ours.first_prepare_seconds) == (8.0, 10.0)
    assert theirs.speed == 1.0


def test_times_of_the_processor_are_compared_where_asked_for(module):
    workers = module("workers")
    runs = [
        worker_run(workers, "ours", 1, 8.0, cpu_seconds=1.0),
        worker_run(workers, "theirs", 1, 4.0, cpu_seconds=3.0),
    ]
    assert workers.summarise_workers(runs, "theirs", "wall")[0].speed == 0.5
    assert workers.summarise_workers(runs, "theirs", "cpu")[0].speed == 3.0


@pytest.mark.parametrize(("ours_seconds", "verdict"), [(1.0, "met"), (1.09, "not met")])
def test_a_target_is_met_up_to_its_bound(module, ours_seconds, verdict):
    workers, targets = module("workers"), module("targets")
    ours, passes = "medseg, openvino", "passes, openvino"
    runs = [worker_run(workers, ours, 1, ours_seconds), worker_run(workers, passes, 1, 1.0)]
    rows = workers.summarise_workers(runs, passes, "wall")
    target = next(each for each in targets.TARGETS["sliding_window", "unet"] if each.figure.endswith("openvino"))
    found = targets.judged_by("unet", target, targets.Measured(runs, rows))
    assert (found.wanted, found.found, found.verdict) == ("≤ 1.08", ours_seconds, verdict)


def test_growth_is_compared_within_each_round(module):
    workers, targets = module("workers"), module("targets")
    growths = {"medseg, torch": [9.0, 10.0, 30.0], "MONAI, batch 1": [9.0, 100.0, 200.0]}
    runs = [worker_run(workers, name, k, 1.0, mib) for name, of in growths.items() for k, mib in enumerate(of)]
    rows = workers.summarise_workers(runs, "MONAI, batch 1", "wall")
    verdicts = targets.judged("sliding_window", "res-unet-118", runs, rows)
    found = next(each for each in verdicts if "growth" in each.figure and each.figure.startswith("medseg, torch"))
    assert (found.least, found.most) == (0.1, 0.15)


def test_a_target_whose_rows_were_left_out_is_open(module):
    workers, targets = module("workers"), module("targets")
    runs = [worker_run(workers, name, 1, 1.0) for name in ("MONAI, batch 1", "medseg, torch")]
    rows = workers.summarise_workers(runs, "MONAI, batch 1", "wall")
    verdicts = targets.judged("sliding_window", "unet", runs, rows)
    open_ones = [each for each in verdicts if each.verdict == "not measured"]
    assert all(each.found is None for each in open_ones)
    assert any("nnU-Net" in each.figure for each in open_ones)
    assert not any(each.figure == "medseg, torch: times as fast as MONAI, batch 1" for each in open_ones)


def test_results_of_one_network_leave_those_of_others(module, tmp_path):
    workers, results = module("workers"), module("results")
    path = tmp_path / "runs.csv"
    for group, seconds in (("unet", 1.0), ("dynunet", 2.0), ("unet", 3.0)):
        run = worker_run(workers, "ours", 1, seconds)
        results.replace_rows([type(run)(**{**vars(run), "group": group})], path, group, {"date": "today"})
    assert [(row["group"], row["seconds"], row["date"]) for row in results.read_rows(path)] == [
        ("dynunet", "2.0", "today"),
        ("unet", "3.0", "today"),
    ]


def test_equal_voxels_and_dice_are_counted_over_all_masks(module, tmp_path):
    masks = {}
    for name, value in (("ours", 0), ("theirs", 1)):
        mask = np.zeros((2, 3, 4), np.uint8)
        mask[1] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"{name}.nii.gz")
        mask[0, 0] = value
        np.save(tmp_path / f"{name}.npy", mask)
        masks[name] = [tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.npy"]
    alike = module("agreement").alike
    equal_percent, dice = alike(list(zip(masks["ours"], masks["theirs"], strict=True)))
    assert equal_percent == pytest.approx(100 * 44 / 48)
    assert dice == pytest.approx(2 * 24 / (24 + 28))
    empty = tmp_path / "empty.npy"
    np.save(empty, np.zeros((2, 3, 4), np.uint8))
    assert alike([(empty, empty)]) == (100.0, 1.0)
    np.save(tmp_path / "other.npy", np.zeros((1, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="voxels"):
        alike([(empty, tmp_path / "other.npy")])


def test_growth_of_memory_is_what_was_held_at_most(module):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no /proc")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from watches import Growth
before = b"x" * 400 * 2**20
del before
growth = Growth()
held = b"x" * 100 * 2**20
del held
print(growth.mib() if growth.is_exact else 100)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 95 < float(said) < 115


def test_cost_on_a_straight_line_is_linear(module):
    linearity = module("scaling").linearity
    assert linearity([1, 2, 3, 4], [5, 7, 9, 11]) == pytest.approx(1)
    assert linearity([1, 2, 3, 4], [1, 4, 9, 16]) < 0.99


TINY = (20, 20, 24)


@pytest.fixture
def work(module, tmp_path):
    """Two classes, of which the second wins where the image is above a half; the network looks at its neighbours."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval()
    return module("window_variants").Work(network, torch.rand(1, *TINY), 3, (8, 8, 8), 0.5, 2, tmp_path)


def labels_of(module, work, name):
    with torch.inference_mode():
        prepared = module("window_variants").VARIANTS[name].prepare(work)
        return prepared.label(prepared.run())


@pytest.mark.parametrize("name", ["MONAI, batch 4", "nnU-Net", "medseg, torch", "medseg, openvino"])
def test_every_way_gives_the_labels_of_the_baseline(module, work, name):
    for needed in module("window_variants").VARIANTS[name].modules:
        pytest.importorskip(needed)
    baseline, found = labels_of(module, work, "MONAI, batch 1"), labels_of(module, work, name)
    assert found.shape == TINY
    # nnU-Net adds up 16-bit floats.
    assert (found == baseline).mean() > (0.99 if name == "nnU-Net" else 0.9999)
    assert len(np.unique(baseline)) > 1


def test_the_passes_alone_are_as_many_as_the_windows_need(module, work):
    counted = []
    work.network.register_forward_hook(lambda module, inputs, output: counted.append(len(inputs[0])))
    with torch.inference_mode():
        prepared = module("window_variants").VARIANTS["passes, torch"].prepare(work)
        counted.clear()
        prepared.run()
    assert work.count == 4 * 4 * 5
    assert counted == [2] * 40


def test_the_arithmetic_counts_every_window(module, work, monkeypatch):
    variants = module("window_variants")
    monkeypatch.setattr(variants, "_matmul_flops_per_cpu_second", lambda: 1e6)
    with torch.inference_mode():
        prepared = variants.VARIANTS["arithmetic"].prepare(work)
    # A multiplication and an addition for each of 27 weights, 3 classes and 8³ voxels of 80 windows.
    assert prepared.cpu_seconds == pytest.approx(80 * 512 * 27 * 3 * 2 / 1e6)


def test_a_runtime_that_was_left_for_pytorch_is_no_measurement(module, work, monkeypatch):
    variants = module("window_variants")
    fallen_back = variants.build_backend(work.network, "torch", None)
    monkeypatch.setattr(variants, "build_backend", lambda *given: fallen_back)
    with pytest.raises(variants.BackendRefusedError):
        variants.VARIANTS["medseg, openvino"].prepare(work)


def test_ways_and_their_needs_are_the_same_in_both_processes(module):
    """The process that measures does not import torch, so it names the ways again."""
    assert list(module("sliding_window").NEEDED) == list(module("window_variants").VARIANTS)
    assert list(module("pipeline").NEEDED) == list(module("chains").CHAINS)
    assert list(module("sliding_window").NETWORKS) == list(module("window_networks").NETWORKS)


def test_a_way_without_its_module_is_left_out_with_a_line(module, capsys):
    found = module("sliding_window").available(sys.executable, {"a": None, "b": "json", "c": "no_such_module"})
    assert found == ["a", "b"]
    assert "no_such_module" in capsys.readouterr().err


def test_the_stock_chain_and_medseg_give_the_same_masks(module, tmp_path):
    pipeline, chains, alike = module("pipeline"), module("chains").CHAINS, module("agreement").alike
    pipeline.write_scans(tmp_path, pipeline.Folder(1, (40, 40, 30), (240, 240, 210)))
    scans, ours, theirs = tmp_path / "scans", tmp_path / "ours", tmp_path / "theirs"
    chains["MONAI, stock chain"].run(scans, theirs)
    chains["medseg, torch"].run(scans, ours)
    equal_percent, dice = alike(pipeline._pairs(ours, theirs))
    assert equal_percent > 99.99
    assert dice > 0.999
    _, truth_dice = alike(pipeline._pairs(ours, tmp_path / "truth"))
    assert truth_dice > 0.3
    (theirs / "scan_0.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="same names"):
        pipeline._pairs(ours, theirs)


def test_the_loss_of_a_training_is_held_against_the_baseline_s_of_the_rounds_that_count(module, tmp_path):
    training, workers = module("training"), module("workers")
    told = {"MONAI, stock": [(9.0, 50.0), (2.0, 10.0)], "medseg": [(9.0, 50.0), (1.5, 4.0)]}
    told["MONAI, 2 workers"] = told["MONAI, stock"]
    for way, rounds in told.items():
        lines = [json.dumps({"losses": [7.0, loss], "waited_percent": waited}) for loss, waited in rounds]
        training._told(tmp_path, way).write_text("\n".join(lines) + "\n")
    runs = [worker_run(workers, way, repeat, 1.0) for way in told for repeat in (0, 1)]
    rows = [training._with_told(row, tmp_path) for row in workers.summarise_workers(runs, "MONAI, stock", "wall")]
    found = {row.command: (row.waited_percent, row.loss, row.loss_apart) for row in rows}
    assert found["medseg"] == (4.0, 1.5, 0.25)
    assert found["MONAI, stock"] == (10.0, 2.0, 0.0)
    assert found["MONAI, 2 workers"] == (10.0, 2.0, None)


def test_every_way_of_training_is_known_to_its_worker(module):
    assert list(module("training").WAYS) == list(module("training_ways").WAYS)
