"""Files with bytes changed at random are read, or refused with a code; nothing else happens."""

import warnings

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medseg.data.dicom.series import read_dicom, take_inventory
from medseg.errors import MedsegError
from tests.dicom_folders import compress, enhanced, save, slices

FORMS = ["classic", "enhanced", "run lengths", "JPEG-LS", "JPEG 2000", "deflated"]
MUTATIONS = 10
MANY_MUTATIONS = 334


def make(form, folder):
    """A small valid file of one of the forms."""
    if form == "enhanced":
        return save(enhanced(), folder / "enhanced.dcm")
    syntax = DeflatedExplicitVRLittleEndian if form == "deflated" else None
    path = save(slices()[0], folder / "slice.dcm", *([syntax] if syntax else []))
    compressions = {"run lengths": RLELossless, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
    if form in compressions:
        compress(path, compressions[form])
    return path


def mutated(raw, generator):
    """A copy with bytes replaced, cut out, doubled or the end lost; mostly in the header."""
    data = bytearray(raw)
    end = len(data) if generator.random() < 0.3 else min(len(data), 1600)
    kind = generator.integers(5)
    at = int(generator.integers(132, end))
    if kind <= 1:
        for place in generator.integers(132, end, generator.integers(1, 9)):
            data[place] = generator.integers(256)
    elif kind == 2:
        data[at : at + 4] = generator.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x01\0\0\0"])
    elif kind == 3:
        del data[at : at + int(generator.integers(1, 40))]
    else:
        data[at:at] = data[at : at + int(generator.integers(1, 40))]
    return bytes(data if generator.random() < 0.9 else data[: int(generator.integers(132, len(data)))])


def attack(form, folder, seeds):
    if form in ("JPEG-LS", "JPEG 2000"):
        pytest.importorskip("jpeg_ls" if form == "JPEG-LS" else "openjpeg")
    path = make(form, folder)
    raw = path.read_bytes()
    outcomes = set()
    for seed in seeds:
        path.write_bytes(mutated(raw, np.random.default_rng(seed)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = take_inventory(folder)
            try:
                volume = read_dicom(path)
            except MedsegError as error:
                outcomes.add(error.code)
                assert error.remedy
            else:
                outcomes.add("read")
                assert np.isfinite(volume.affine).all()
                assert all(series.is_readable for series in found.series)
    return outcomes


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_read_or_refused_with_a_code(form, tmp_path):
    assert len(attack(form, tmp_path, range(MUTATIONS))) > 1


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_many_damaged_files_are_read_or_refused_with_a_code(form, tmp_path):
    assert len(attack(form, tmp_path, range(1000, 1000 + MANY_MUTATIONS))) > 3


def test_the_files_that_are_damaged_were_whole(tmp_path):
    for form in ("classic", "enhanced", "run lengths", "deflated"):
        assert read_dicom(make(form, tmp_path / form)).array.size
        assert dcmread(next((tmp_path / form).iterdir())).Rows
