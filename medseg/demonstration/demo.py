"""The whole way on synthetic scans: make them, segment them, score the masks, draw a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medseg.data.write import write
from medseg.demonstration.phantom import make_phantom
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.html_report import illustrate, write_report
from medseg.evaluation.results import Evaluation
from medseg.inference.predict import Predictions, predict

BUNDLE = "phantom_ct_segmentation"


@dataclass(frozen=True)
class Demo:
    """What the demonstration made.

    Args:
        predictions: The record of the masks.
        evaluation: Their scores.
        page: The HTML page with table and pictures.
    """

    predictions: Predictions
    evaluation: Evaluation
    page: Path


def demo(output: str | Path = "demo-output", *, tell: Callable[[str], None] = lambda text: None) -> Demo:
    """Segment three synthetic thorax scans with the shipped bundle and score the masks.

    The scans are a NIfTI volume, an oblique NIfTI volume and a DICOM series; none of them
    was seen in training.

    Args:
        output: Folder for scans, references, masks, scores and the page.
        tell: Called with a line of text before each step.
    """
    folder = Path(output)
    scans, references, masks = folder / "scans", folder / "references", folder / "masks"
    tell("making three synthetic scans: NIfTI, oblique NIfTI, DICOM series")
    make_scans(scans, references)
    tell(f"segmenting them with the bundle {BUNDLE}")
    predictions = predict(BUNDLE, scans, masks)
    tell("scoring the masks")
    evaluation = evaluate(masks, references, output=folder / "scores", progress=False)
    tell("drawing the page")
    pictures = illustrate(evaluation, scans, masks, references)
    page = write_report(evaluation, pictures, folder / "report.html", title="medseg demo: synthetic thorax CT")
    return Demo(predictions, evaluation, page)


def make_scans(scans: Path, references: Path) -> None:
    """Three phantoms with their reference masks; seeds beyond those used in training."""
    straight = make_phantom(900_001, shape=(104, 104, 72))
    write(straight.image, straight.affine, scans / "straight.nii.gz")
    write(straight.labels, straight.affine, references / "straight.nii.gz")
    oblique = make_phantom(900_002, oblique_degrees=12.0, orientation="LPS")
    write(oblique.image, oblique.affine, scans / "oblique.nii.gz")
    write(oblique.labels, oblique.affine, references / "oblique.nii.gz")
    series = make_phantom(900_003)
    write_ct_series(series.image, series.affine, scans / "dicom_series", seed_uid="medseg demo")
    write(series.labels, series.affine, references / "dicom_series.nii.gz")
