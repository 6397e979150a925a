"""Files with bytes changed at random: read, or refused with a code; what a checksum guards never changes."""

import gzip
import warnings

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medseg.data.read import read, read_mask
from medseg.errors import MedsegError

MUTATIONS = 25
MANY_MUTATIONS = 2000
HEADER_BYTES = 420

VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)


def nifti(path):
    nib.save(nib.Nifti1Image(VOXELS, np.diag([1, 1.5, 2, 1.0])), path)


def nifti_2(path):
    nib.save(nib.Nifti2Image(VOXELS, np.eye(4)), path)


def itk(path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path), useCompression=True)


def picture(path):
    Image.fromarray(np.arange(12 * 9, dtype=np.uint8).reshape(12, 9)).save(path)


def npz(path):
    np.savez_compressed(path, mask=np.abs(VOXELS) % 3, affine=np.eye(4))


FORMS = {
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "two.nii": nifti_2,
    "a.nrrd": itk,
    "a.mha": itk,
    "a.png": picture,
    "a.tif": picture,
    "a.jpg": picture,
    "a.bmp": picture,
    "a.npz": npz,
}
CHECKED = ("a.nii.gz", "a.png", "a.npz")
"""Forms with a checksum over the voxels."""


def mutated(raw, rng):
    """A copy with bytes replaced, cut out, doubled, or the end lost."""
    data = bytearray(raw)
    end = len(data) if rng.random() < 0.4 else min(len(data), HEADER_BYTES)
    kind, at = rng.integers(5), int(rng.integers(end))
    if kind <= 1:
        for place in rng.integers(0, end, rng.integers(1, 9)):
            data[place] = rng.integers(256)
    elif kind == 2:
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x01\0\0\0"])
    elif kind == 3:
        del data[at : at + int(rng.integers(1, 40))]
    else:
        data[at:at] = data[at : at + int(rng.integers(1, 40))]
    return bytes(data if rng.random() < 0.9 else data[: int(rng.integers(len(data)))])


def with_changed_header(raw, rng):
    """As ``mutated``, but inside the gzip stream, whose checksum is set anew: the header itself lies."""
    return gzip.compress(mutated(gzip.decompress(raw), rng), mtime=0)


def attack(name, folder, seeds, change=mutated, must_keep=False):
    path = folder / name
    FORMS[name](path)
    raw, whole = path.read_bytes(), read(path).array
    outcomes = set()
    for seed in seeds:
        path.write_bytes(change(raw, np.random.default_rng(seed)))
        for reader in (read, read_mask):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    volume = reader(path)
                except MedsegError as error:
                    outcomes.add(error.code)
                    assert error.remedy
                    continue
            outcomes.add("read")
            assert np.isfinite(volume.affine).all()
            if must_keep and reader is read:
                np.testing.assert_array_equal(volume.array, whole)
    return outcomes


@pytest.mark.parametrize("name", FORMS)
def test_a_damaged_file_is_read_or_refused_with_a_code(name, tmp_path):
    assert len(attack(name, tmp_path, range(MUTATIONS), must_keep=name in CHECKED)) > 1


def test_a_header_that_lies_under_a_right_checksum_is_read_or_refused_with_a_code(tmp_path):
    assert len(attack("a.nii.gz", tmp_path, range(MUTATIONS), with_changed_header)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_many_damaged_files_are_read_or_refused_with_a_code(name, tmp_path):
    assert len(attack(name, tmp_path, range(1000, 1000 + MANY_MUTATIONS), must_keep=name in CHECKED)) > 2


@pytest.mark.slow
def test_many_headers_that_lie_are_read_or_refused_with_a_code(tmp_path):
    assert len(attack("a.nii.gz", tmp_path, range(1000, 1000 + MANY_MUTATIONS), with_changed_header)) > 3
