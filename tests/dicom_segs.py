"""DICOM SEG and RTSTRUCT made and read by others' code, for tests of ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medseg.data.dicom.write_seg import Author, Meaning

AUTHOR = Author("ball_segmentation", "0.1.0", "0123456789abcdef", "0.1.0")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ATTIC = Path(sys.executable).parent


def meaning(count, terms=None):
    """Labels 1 to ``count`` with made-up names."""
    return Meaning({0: "background", **{n: f"structure {n}" for n in range(1, count + 1)}}, terms or {})


def blobs(shape, labels=3, seed=0):
    """Labels in boxes, the first slice and the last but one among them; one slice stays empty."""
    generator = np.random.default_rng(seed)
    array = np.zeros(shape, dtype=np.uint8)
    for label in range(1, labels + 1):
        low = [int(generator.integers(0, n - 2)) for n in shape]
        array[tuple(slice(a, a + 2) for a in low)] = label
    array[0, 1, 0], array[1, 0, shape[2] - 1], array[..., shape[2] - 2] = 1, labels, 0
    return array


def headers(folder):
    """The slices' data sets in the order of their positions along the normal."""
    files = [pydicom.dcmread(path) for path in sorted(Path(folder).iterdir())]
    row, column = np.reshape(files[0].ImageOrientationPatient, (2, 3)).astype(float)
    return sorted(files, key=lambda each: float(np.cross(row, column) @ np.array(each.ImagePositionPatient, float)))


def segment(number, name, kind=codes.SCT.Lung):
    return hd.seg.SegmentDescription(number, name, codes.SCT.AnatomicalStructure, kind, "MANUAL")


def make_seg(folder, planes, path, kind="BINARY", segments=None, **options):
    """A SEG of highdicom's: ``planes`` (slice, row, column) in the order of ``headers(folder)``."""
    described = segments or [segment(n, f"structure {n}") for n in range(1, max(int(planes.max()), 1) + 1)]
    made = hd.seg.Segmentation(
        headers(folder), planes, kind, described, generate_uid(), 7, generate_uid(), 1, "tests", "tests", "1", "1",
        **options,
    )  # fmt: skip
    made.save_as(path)
    return path


def highdicom_labels(path, affine, shape):
    """Labels that highdicom reads, on the grid (X, Y, Z) of ``affine`` (RAS+), and how far off it they lie, in mm."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    array = np.zeros(shape, dtype=volume.array.dtype)
    indices = np.indices(volume.spatial_shape).reshape(3, -1)
    world = LPS_TO_RAS @ volume.affine @ np.vstack([indices, np.ones(indices.shape[1])])
    exact = np.linalg.inv(affine) @ world
    places = np.rint(exact[:3]).astype(int)
    off_mm = np.linalg.norm((affine @ np.vstack([places, np.ones(places.shape[1])]) - world)[:3], axis=0).max()
    array[tuple(places)] = volume.array.ravel()
    return array, float(off_mm)


def dcmqi_labels(path, affine, shape, folder):
    """Labels that dcmqi reads, on the grid of ``affine``, and how far off it they lie, in mm."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(
        [ATTIC / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-p", "s", "-t", "nrrd",
         "--mergeSegments"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    array, worst_mm = np.zeros(shape, dtype=np.uint8), 0.0
    for file in sorted(folder.glob("*.nrrd")):
        image = SimpleITK.ReadImage(str(file))
        voxels = SimpleITK.GetArrayFromImage(image).T
        own = np.eye(4)
        own[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        own[:3, 3] = image.GetOrigin()
        inside = np.array(np.nonzero(voxels))
        world = LPS_TO_RAS @ own @ np.vstack([inside, np.ones(inside.shape[1])])
        places = np.rint((np.linalg.inv(affine) @ world)[:3]).astype(int)
        back = affine @ np.vstack([places, np.ones(places.shape[1])])
        worst_mm = max(worst_mm, float(np.linalg.norm((back - world)[:3], axis=0).max(initial=0)))
        array[tuple(places)] = voxels[tuple(inside)]
    return array, worst_mm


def make_structures(folder, path, structures, **changes):
    """An RTSTRUCT drawn on the series in ``folder``.

    Args:
        folder: The series.
        path: The file.
        structures: By (number, name), contours as arrays (n, 3) in LPS mm.
        changes: Attributes of the data set to set otherwise.
    """
    source = headers(folder)[0]
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    made.Modality, made.StructureSetLabel = "RTSTRUCT", "tests"
    made.StudyInstanceUID, made.SeriesInstanceUID = source.StudyInstanceUID, generate_uid()
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.FrameOfReferenceUID, [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence = [_roi(number, name, source) for number, name in structures]
    made.ROIContourSequence = [_contours(number, each) for (number, _), each in structures.items()]
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
    return path


def _roi(number, name, source):
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
    roi.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    return roi


def _contours(number, contours):
    item = Dataset()
    item.ReferencedROINumber, item.ContourSequence = number, []
    for points in contours:
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
        contour.ContourData = [f"{value:.10g}"[:16] for value in np.ravel(points)]
        item.ContourSequence.append(contour)
    return item


def contour_mm(affine, corners, place):
    """Corners given as (column, row) voxels of a slice of the grid ``affine`` (RAS+), in LPS mm."""
    voxels = np.array([(column, row, place, 1) for column, row in corners], dtype=float).T
    return (LPS_TO_RAS @ affine @ voxels)[:3].T
