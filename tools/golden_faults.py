"""One fault at a time in a copy of a scene's results, to see that a comparison finds it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image


def plant(kept: Path, copy: Path) -> Iterator[str]:
    """Each time ``copy`` holds the results of ``kept`` with one fault more than they have; what it is is yielded.

    One fault for every kind of file that there is, one in a file that went missing.
    """
    for pattern, spoil in SPOILERS.items():
        paths = sorted(path for path in kept.rglob(pattern) if path.is_file())
        if paths:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(kept, copy)
            name = paths[-1].relative_to(kept)
            spoil(copy / name)
            yield f"{spoil.__name__} in {name}"


def move_a_voxel(path: Path) -> None:
    """Give one voxel another value."""
    image = nibabel.nifti1.load(path)
    array = np.asanyarray(image.dataobj).copy()
    array.flat[array.size // 2] += 1
    nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), path)


def shift_by_a_micrometre(path: Path) -> None:
    """Move the grid a little."""
    image = nibabel.nifti1.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.001
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine), path)


def change_a_pixel(path: Path) -> None:
    """Give one pixel another value."""
    with Image.open(path) as picture:
        array = np.array(picture)
    array.flat[0] = 255 - array.flat[0]
    Image.fromarray(array).save(path)


def change_a_frame(path: Path) -> None:
    """Flip one pixel of a DICOM object."""
    import pydicom

    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    stored = bytearray(dataset.PixelData)
    stored[0] ^= 1
    dataset.PixelData = bytes(stored)
    dataset.save_as(path)


def change_a_value(path: Path) -> None:
    """Change the first number or text of a JSON file."""
    values = json.loads(path.read_text(encoding="utf8"))
    if isinstance(values, dict):
        values["planted"] = 1
    else:
        values.append("planted")
    path.write_text(json.dumps(values), encoding="utf8")


def change_a_cell(path: Path) -> None:
    """Change a table's last cell."""
    with path.open(newline="", encoding="utf8") as file:
        rows = list(csv.reader(file))
    rows[-1][0] += "1"
    with path.open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(rows)


def change_the_exit_code(path: Path) -> None:
    """Let a command have ended otherwise."""
    text = path.read_text(encoding="utf8")
    path.write_text(text.replace("exit code ", "exit code 4", 1), encoding="utf8")


def change_the_last_word(path: Path) -> None:
    """Add a word to a text."""
    path.write_text(path.read_text(encoding="utf8") + "\nplanted\n", encoding="utf8")


def lose_a_file(path: Path) -> None:
    """Take a file away."""
    path.unlink()


SPOILERS: dict[str, Callable[[Path], None]] = {
    "*.nii.gz": move_a_voxel,
    "*[a-z0-9].nii.gz": shift_by_a_micrometre,
    "*.png": change_a_pixel,
    "*.dcm": change_a_frame,
    "*.json": change_a_value,
    "*.csv": change_a_cell,
    "said_*.txt": change_the_exit_code,
    "*.html": change_the_last_word,
    "*.*": lose_a_file,
}
"""A fault for each kind of file, by the pattern of its name."""
