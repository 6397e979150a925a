import importlib
import sys

import pytest

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
    monkeypatch.setattr(measuring, "run_once", lambda words: (len(words), 1.0))
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
    print(*run_once([sys.executable, "-c", code]))
"""
    import subprocess

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
    made = module("run").with_tables(page, tmp_path)
    assert "| `ours` | 1.25 (1 – 1.5) | 0.625 (0.5 – 0.75) | 15 |" in made
    assert "old" not in made
    assert "<!-- other -->\nkept\n<!-- end -->" in made
    assert module("run").with_tables(made, tmp_path) == made


def test_equal_voxels_are_counted_over_all_masks(module, tmp_path):
    import nibabel
    import numpy as np

    for folder, value in (("ours", 0), ("theirs", 1)):
        (tmp_path / folder).mkdir()
        mask = np.zeros((2, 3, 4), np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / folder / "a.nii.gz")
        mask[0, 0] = value
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / folder / "b.nii.gz")
    compare = module("predict_folder").compare_masks
    assert compare(tmp_path / "ours", tmp_path / "theirs") == (48, 44)
    (tmp_path / "theirs" / "b.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="same names"):
        compare(tmp_path / "ours", tmp_path / "theirs")
