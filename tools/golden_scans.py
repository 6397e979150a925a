"""Made scans for `tools/goldens.py`: written with nibabel, Pillow and NumPy, never with the code that is compared."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

TURNED_MM = np.array([[-1.0, 0, 0, 40], [0, -1.0, 0, 30], [0, 0, 1.0, -20], [0, 0, 0, 1.0]])
THICK_MM = np.diag([-1.5, -1.5, 10.0, 1.0])


def blobs(shape: tuple[int, ...], seed: int, classes: int = 2) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Nested bright ellipsoids in smooth noise, and their mask: values 1 (outermost) to ``classes``."""
    generator = np.random.default_rng(seed)
    places = np.indices(shape).reshape(len(shape), -1).T / np.array(shape) - 0.5 - generator.uniform(-0.05, 0.05)
    distance = np.linalg.norm(places * generator.uniform(0.9, 1.2, len(shape)), axis=1).reshape(shape)
    mask = np.zeros(shape, np.uint8)
    for value in range(1, classes + 1):
        mask[distance < 0.4 - 0.09 * value] = value
    return (60.0 * mask + 100 + generator.normal(0, 8, shape)).astype(np.float32), mask


def two_balls(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """A bright ball and a brighter one behind it, as far as the two parts of a hippocampus lie apart."""
    generator = np.random.default_rng(seed)
    image = generator.normal(100, 10, shape)
    for brightness, middle_y in ((60, 32), (120, 18)):
        centre = np.array([shape[0] / 2, middle_y, shape[2] / 2]) + generator.uniform(-2, 2, 3)
        image[np.linalg.norm(np.indices(shape).T - centre, axis=-1).T < 6] += brightness
    return image.astype(np.float32)


def save(array: NDArray, path: Path, affine: NDArray = TURNED_MM) -> None:
    """An array as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def labelled_volumes(root: Path, shape: tuple[int, ...], affine: NDArray, classes: int, count: int) -> None:
    """A data set: images/ and labels/ of the same names."""
    for number in range(count):
        image, mask = blobs(shape, number, classes)
        save(image, root / "images" / f"case_{number}.nii.gz", affine)
        save(mask, root / "labels" / f"case_{number}.nii.gz", affine)


def pictures(root: Path, channels: int) -> None:
    """Two PNG files, grey or in colours."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        grey = np.clip(blobs((150, 180), number)[0], 0, 255).astype(np.uint8)
        Image.fromarray(grey if channels == 1 else np.stack([grey] * channels, -1)).save(root / f"case_{number}.png")


def pages(root: Path) -> None:
    """A TIFF of three pages."""
    root.mkdir(parents=True, exist_ok=True)
    sheets = [Image.fromarray(np.clip(blobs((160, 140), n)[0], 0, 255).astype(np.uint8)) for n in range(3)]
    sheets[0].save(root / "pages.tif", save_all=True, append_images=sheets[1:])


def faulty(root: Path) -> None:
    """A data set of twelve cases, most of them with one fault of their own."""
    labelled_volumes(root, (24, 22, 18), TURNED_MM, 2, 12)
    image, mask = blobs((24, 22, 18), 0)
    images, labels = root / "images", root / "labels"
    broken = image.copy()
    broken[3, 4, 5] = np.nan
    save(broken, images / "case_1.nii.gz")
    shifted = TURNED_MM.copy()
    shifted[0, 3] += 7
    save(mask, labels / "case_2.nii.gz", shifted)
    save(mask.astype(np.float32) * 0.7, labels / "case_3.nii.gz")
    (images / "case_4.nii.gz").write_bytes((images / "case_4.nii.gz").read_bytes()[:-400])
    (labels / "case_5.nii.gz").unlink()
    save(np.zeros_like(mask), labels / "case_6.nii.gz")
    (images / "case_7.nii.gz").write_bytes((images / "case_8.nii.gz").read_bytes())
    save(image[..., :9], images / "case_9.nii.gz")
    save(np.where(mask == 2, 9, mask).astype(np.uint8), labels / "case_10.nii.gz")
    (images / "notes.nii.gz").write_bytes(gzip.compress(b"not an image"))
    (root / "readme.txt").write_text("made for comparing two revisions\n", encoding="utf8")


def write_all(root: Path) -> None:
    """Every made input below one folder."""
    for number in range(3):
        save(two_balls((35, 50, 36), number), root / "hippocampus" / f"case_{number}.nii.gz")
    for number in range(2):
        save(blobs((90, 80, 6), number, 3)[0], root / "hearts" / f"case_{number}.nii.gz", THICK_MM)
    labelled_volumes(root / "train", (36, 48, 34), TURNED_MM, 2, 8)
    labelled_volumes(root / "scored", (20, 18, 16), TURNED_MM, 2, 5)
    masks = root / "scored" / "masks"
    for number in range(4):  # The fifth has no mask.
        save(blobs((20, 18, 16), number + 1)[1], masks / f"case_{number}.nii.gz")
    split = {"train": ["case_0", "case_1"], "validation": ["case_2"], "test": ["case_3", "case_4"]}
    (root / "scored" / "split.json").write_text(json.dumps(split), encoding="utf8")
    pictures(root / "grey", 1)
    pictures(root / "colour", 3)
    pages(root / "pages")
    faulty(root / "faulty")
