"""What is installed is whole: every package is in the wheel, every module imports from it, and it predicts."""

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.demonstration.phantom import make_phantom
from tests.conftest import save_nifti

ROOT = Path(__file__).resolve().parents[1]
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import medseg
names = ["medseg", *(found.name for found in pkgutil.walk_packages(medseg.__path__, "medseg."))]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(pathlib.Path(medseg.__file__).parent, len(names))
"""


def run(*words, **settings):
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def packages_on_disk():
    return {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("medseg/**/__init__.py")}


def test_every_package_is_named_in_the_metadata():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf8")
    assert set(parser["options"]["packages"].split()) == packages_on_disk() | {"medseg.bundles"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the built wheel's content alone, and the environment of a process that finds it there."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    source = folder / "source"  # Building leaves files beside the source.
    source.mkdir()
    for name in ("medseg", "bundles", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", source)
    (wheel,) = (folder / "wheels").glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", folder / "target", wheel)
    return folder / "target", {**os.environ, "PYTHONPATH": str(folder / "target")}


@pytest.mark.slow
def test_every_module_is_imported_from_the_wheel(installed, tmp_path):
    target, environment = installed
    place, count = run("-c", IMPORT_ALL, cwd=tmp_path, env=environment).split()
    assert Path(place) == target / "medseg"
    modules = [path for path in (ROOT / "medseg").rglob("*.py") if "__pycache__" not in path.parts]
    assert int(count) >= len(modules)


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(installed):
    target, _ = installed
    files = [path for path in (ROOT / "medseg").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) > 100
    assert not [path for path in files if not (target / path.relative_to(ROOT)).is_file()]


@pytest.mark.slow
def test_the_wheel_predicts_with_a_bundle_that_it_ships(installed, tmp_path):
    _, environment = installed
    phantom = make_phantom(900_001, shape=(48, 48, 32))
    save_nifti(phantom.image, tmp_path / "scans" / "one.nii.gz", phantom.affine)
    words = ["predict", "phantom_ct_segmentation", "scans", "masks", "--device", "cpu", "--backend", "torch"]
    told = run("-m", "medseg", *words, cwd=tmp_path, env={**environment, "OMP_NUM_THREADS": "1"})
    assert "1 of 1 masks" in told
    mask = np.asarray(nibabel.load(tmp_path / "masks" / "one.nii.gz").dataobj)
    assert mask.shape == phantom.labels.shape
    assert np.mean(mask == phantom.labels) > 0.9
