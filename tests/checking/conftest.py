"""A clean data set on disk, and ways to spoil it."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medseg
from medseg.checking.case_statistics import measure_case
from medseg.checking.read_case import Reading
from medseg.data.cases.case import Case
from medseg.data.volume import Volume

SHAPE = (14, 13, 12)
AFFINE = np.array([[-1.5, 0, 0, 10], [0, -1.25, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1.0]])
CASES = 6


def codes(report):
    """The codes of all findings."""
    return {finding.code for finding in report.findings}


def image_of(seed):
    """Noise with a coarse pattern of its own, in whole numbers."""
    generator = np.random.default_rng(seed)
    coarse = np.kron(generator.normal(0, 300, (7, 7, 6)), np.ones((2, 2, 2)))[:14, :13, :12]
    return (2000 + coarse + generator.normal(0, 20, SHAPE)).astype(np.int16)


def mask_of(seed):
    """A ball whose upper half is label 2."""
    centre = np.array(SHAPE) / 2 + np.random.default_rng(seed + 100).uniform(-1.5, 1.5, 3)
    distance = np.linalg.norm(np.indices(SHAPE).T - centre, axis=-1).T
    mask = (distance < 4).astype(np.uint8)
    mask[:, :, 6:] *= 2
    return mask


def save(array, path, affine=AFFINE):
    """Write with nibabel, not with the code under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@dataclass(frozen=True)
class Scans:
    """Cases c0 … c5 of six patients in images/ and labels/, described by a dataset.json."""

    root: Path

    def image(self, number):
        return self.root / "images" / f"c{number}.nii.gz"

    def label(self, number):
        return self.root / "labels" / f"c{number}.nii.gz"

    def set_image(self, number, array, affine=AFFINE):
        save(array, self.image(number), affine)

    def set_label(self, number, array, affine=AFFINE):
        save(array, self.label(number), affine)

    def describe(self, labels=("background", "lower", "upper"), **changes):
        pairs = [{"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz"} for n in range(CASES)]
        named = labels if isinstance(labels, dict) else {str(value): name for value, name in enumerate(labels)}
        content = {"labels": named, "modality": {"0": "MR"}, "training": pairs, **changes}
        (self.root / "dataset.json").write_text(json.dumps(content))

    def undescribe(self):
        (self.root / "dataset.json").unlink(missing_ok=True)

    def check(self, **options):
        return medseg.check(self.root, **options)


@pytest.fixture
def scans(tmp_path):
    made = Scans(tmp_path / "scans")
    for number in range(CASES):
        made.set_image(number, image_of(number))
        made.set_label(number, mask_of(number))
    made.describe()
    return made


def reading_of(image, mask=None, name="a", affine=AFFINE, group=None, **changes):
    """A case as it is after its files were read: arrays in memory, the mask on the image's grid."""
    case = Case(name, (f"{name}.nii.gz",), None if mask is None else f"{name}_mask.nii.gz", group or name)
    volumes = [None if array is None else Volume(array, affine, **changes) for array in (image, mask)]
    return Reading(case, volumes[0], None if mask is None else Volume(mask, affine), mask, (), (), True)


def measured(image, mask=None, name="a", **changes):
    """What is kept of such a case."""
    return measure_case(reading_of(image, mask, name, **changes))


def one_hot_first(labels, count):
    """(C, X, Y[, Z]): 1 in the channel of each voxel's label."""
    return np.stack([labels == value for value in range(count)]).astype(np.uint8)
