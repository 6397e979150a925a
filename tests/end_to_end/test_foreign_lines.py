"""What a user's terminal shows is medseg's own: libraries' words about themselves are left out, one by one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from medseg.cli import LIBRARY_LINES, LIBRARY_WARNINGS, LineFilter, hush_libraries
from tests.end_to_end.miniatures import isbi

COMMANDS = """
import sys
from medseg.cli import main
small = ["--form", "small", "--new-split", "--epochs", "1", "--quiet", "--set", "network_options={filters: 2}"]
train = ["train", "isbi_em_segmentation", "--data", "data", *small, "--output"]
codes = [main([*train, "run"]), main(["predict", "run", "data", "masks", "--quiet"])]
print("failing", file=sys.stderr, flush=True)
codes.append(main([*train, "failed", "--set", "learning_rate=1e30"]))
print(codes)
"""


def test_training_and_predicting_print_nothing_foreign_and_a_failure_is_told_once(tmp_path):
    """Of the studies' bundles, the one whose preparation can be undone by nothing makes MONAI warn."""
    isbi(tmp_path / "data")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 4]", done.stderr
    quiet, failing = done.stderr.split("failing\n")
    assert quiet == ""
    assert [line.split()[0] for line in failing.splitlines()] == ["medseg:", "at", "what", "do"]
    assert "LOSS_NONFINITE" in failing


@pytest.fixture
def hushed():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        hush_libraries()
        yield
    for name, text in LIBRARY_LINES.items():
        logging.getLogger(name).removeFilter(LineFilter(text))


@pytest.mark.parametrize("name", LIBRARY_LINES)
def test_only_that_line_of_a_logger_is_left_out(hushed, name, caplog):
    logger = logging.getLogger(name)
    logger.warning(f"Engine or plugin: {LIBRARY_LINES[name]}.")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_only_those_warnings_are_left_out(hushed):
    with pytest.warns(UserWarning, match="something else") as seen:
        warnings.filterwarnings("always", message="something else")
        hush_libraries()
        for text in (*LIBRARY_WARNINGS, "something else"):
            warnings.warn(f"{text} (and more)", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["something else (and more)"]


def test_a_line_is_held_back_once_however_often_that_is_asked_for(hushed):
    hush_libraries()
    assert all(logging.getLogger(name).filters.count(LineFilter(text)) == 1 for name, text in LIBRARY_LINES.items())
