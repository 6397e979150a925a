"""NPZ archives: one array, its grid, and nothing that runs."""

import pickle

import numpy as np
import pytest

from medseg.data.formats.npz import read_npz
from medseg.errors import ImageError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def test_the_one_array_is_read_whatever_its_name(tmp_path):
    np.savez(tmp_path / "a.npz", anything=VOXELS, scalar=np.float32(3), words=np.array(["x"]))
    volume = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_array_equal(volume.affine, np.eye(4))


def test_an_affine_beside_it_is_its_grid(tmp_path):
    affine = np.diag([-1.5, 2, 3, 1])
    np.savez_compressed(tmp_path / "a.npz", mask=VOXELS, affine=affine)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz").affine, affine)


@pytest.mark.parametrize(
    "arrays",
    [{}, {"a": VOXELS, "b": VOXELS}, {"line": np.arange(4)}],
    ids=["none", "two", "one axis"],
)
def test_no_image_or_several_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ImageError, match="NPZ_ARRAYS"):
        read_npz(tmp_path / "a.npz")


def test_booleans_become_uint8(tmp_path):
    np.savez(tmp_path / "a.npz", VOXELS > 3)
    assert read_npz(tmp_path / "a.npz").array.dtype == np.uint8


@pytest.mark.parametrize("array", [VOXELS.astype(complex), np.zeros((1, 2, 2, 2, 2))], ids=["complex", "five axes"])
def test_what_is_no_image_is_refused(tmp_path, array):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(ImageError, match="IMAGE_DTYPE"):
        read_npz(tmp_path / "a.npz")


class Trap:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (self.target.touch, ())


def test_a_pickle_inside_is_refused_and_never_run(tmp_path):
    trap = np.empty((2, 2), dtype=object)
    trap[:] = Trap(tmp_path / "ran")
    np.savez(tmp_path / "a.npz", trap)
    with pytest.raises(ImageError, match="IMAGE_CORRUPT"):
        read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_or_missing_byte_is_refused(tmp_path, save):
    save(tmp_path / "a.npz", np.random.default_rng(0).integers(0, 99, (9, 9, 9)))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    for damaged in (data[:-40], changed):
        (tmp_path / "b.npz").write_bytes(damaged)
        with pytest.raises(ImageError, match="IMAGE_CORRUPT"):
            read_npz(tmp_path / "b.npz")
