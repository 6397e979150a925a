"""Running MONAI's own command line as its users do: in a process of its own, from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path("configs")


def run_quietly(words: list[str], folder: Path) -> str:
    """What a command prints; fails the test with it where the command fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """An empty folder that is neither the bundle's nor the data's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def monai_bundle(elsewhere):
    """`python -m monai.bundle VERB --config_file … --key value …` from elsewhere, on one process or several."""

    def run(verb: str, bundle: Path, configs: list[str], ranks: int = 1, words: tuple[str, ...] = (), **options) -> str:
        files = [str(bundle / CONFIGS / f"{name}.json") for name in configs]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
        given = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        config_file = files[0] if len(files) == 1 else str(files)
        return run_quietly(
            [*launcher, "-m", "monai.bundle", verb, *words, "--config_file", config_file, *given], elsewhere
        )

    return run
