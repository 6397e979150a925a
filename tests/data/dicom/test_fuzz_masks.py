"""DICOM SEG and RTSTRUCT with bytes changed at random are masks, or refused with a code; nothing else happens."""

import time
import warnings

import numpy as np
import pytest

from medseg.data.dicom.source import read_referenced_series
from medseg.data.read import read, read_mask
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import MedsegError
from tests.dicom_segs import blobs, contour_mm, make_seg, make_structures, segment

FORMS = ["binary", "fractional", "labelmap", "contours"]
MUTATIONS = 12
MANY_MUTATIONS = {"binary": 700, "fractional": 700, "labelmap": 700, "contours": 2000}
LONGEST_S = 10
SHAPE = (14, 11, 5)
SQUARE = [(3.6, 2.6), (10.4, 2.6), (10.4, 8.4), (3.6, 8.4)]
HOLE = [(5.6, 4.6), (8.4, 4.6), (8.4, 6.4), (5.6, 6.4)]


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks") / "ct"
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    write_ct_series(np.zeros(SHAPE, np.int16), affine, folder, seed_uid="fuzz")
    return folder


def make(form, ct, path):
    """A small valid file of one of the forms."""
    if form == "contours":
        affine = read(ct).affine
        first = [contour_mm(affine, corners, place) for corners in (SQUARE, HOLE) for place in (1, 2)]
        dot = [(column / 4, row / 4) for column, row in SQUARE]
        return make_structures(ct, path, {(1, "lung"): first, (2, "dot"): [contour_mm(affine, dot, 3)]})
    planes = blobs(SHAPE).transpose(2, 1, 0)
    if form == "fractional":
        shares = (planes > 0).astype(np.float32)
        return make_seg(ct, shares, path, "FRACTIONAL", [segment(1, "lung")], max_fractional_value=200)
    return make_seg(ct, planes, path, form.upper())


def mutated(raw, generator):
    """A copy with bytes replaced, digits exchanged, parts cut out or doubled, or the end lost."""
    data = bytearray(raw)
    kind, at = generator.integers(6), int(generator.integers(132, len(data)))
    if kind <= 1:
        for place in generator.integers(132, len(data), generator.integers(1, 9)):
            data[place] = generator.integers(256)
    elif kind == 2:
        data[at : at + 4] = generator.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x01\0\0\0"])
    elif kind == 3:
        del data[at : at + int(generator.integers(1, 40))]
    elif kind == 4:
        data[at:at] = data[at : at + int(generator.integers(1, 40))]
    else:
        digits = [place for place, byte in enumerate(data[132:], 132) if byte in b"0123456789.-"]
        for place in generator.choice(digits, generator.integers(1, 9)):
            data[place] = generator.choice(list(b"0123456789.-eE\\ "))
    return bytes(data if generator.random() < 0.9 else data[: int(generator.integers(132, len(data)))])


def attack(form, ct, seeds):
    path = make(form, ct, ct.parent / f"{form}.dcm")
    raw = path.read_bytes()
    assert read_mask(path).array.any()
    outcomes = set()
    for seed in seeds:
        path.write_bytes(mutated(raw, np.random.default_rng(seed)))
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for reader in (read_mask, read_referenced_series, lambda file: read_mask(file, names={1: ("lung",)})):
                try:
                    made = reader(path)
                except MedsegError as error:
                    outcomes.add(error.code)
                    assert error.remedy, seed
                else:
                    outcomes.add("read")
                    assert isinstance(made, tuple) or np.isfinite(made.affine).all(), seed
        assert time.monotonic() - started < LONGEST_S, seed
    return outcomes


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_mask_is_read_or_refused_with_a_code(form, ct):
    assert len(attack(form, ct, range(MUTATIONS))) > 2


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_many_damaged_masks_are_read_or_refused_with_a_code(form, ct):
    assert len(attack(form, ct, range(1000, 1000 + MANY_MUTATIONS[form]))) > 4
