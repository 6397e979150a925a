#!/usr/bin/env python3
"""Draw the pictures of README and docs: `demo.png` from a synthetic scan, `hippocampus.png` from a real one.

    python tools/make_figures.py
    python tools/make_figures.py --hippocampus Task04_Hippocampus

The second needs the Medical Segmentation Decathlon's Task04 (CC BY-SA 4.0), which is not part of the project.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from medseg.data.read import read, read_mask
from medseg.demonstration.demo import BUNDLE, make_scans
from medseg.demonstration.phantom import LABELS
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.examples import overlay
from medseg.inference.predict import predict

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CASE = "straight.nii.gz"
HELD_OUT = "hippocampus_148.nii.gz"
"""Of the bundle's test cases the one whose mean Dice is the median."""
SAGITTAL_CUT = 15
"""Through the length of the hippocampus; the scan's first axis runs from left to right."""
HIPPOCAMPUS = "hippocampus_mr_segmentation"
SUBFIELDS = {0: "background", 1: "anterior", 2: "posterior"}


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures; the bundles must have their weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="FOLDER", help="default: docs/images")
    parser.add_argument("--hippocampus", type=Path, metavar="DATA", help="draw hippocampus.png from this data set")
    parsed = parser.parse_args(arguments)
    parsed.output.mkdir(parents=True, exist_ok=True)
    if parsed.hippocampus:
        target, picture = parsed.output / "hippocampus.png", _hippocampus_picture(parsed.hippocampus)
    else:
        target, picture = parsed.output / "demo.png", _demo_picture()
    target.write_bytes(picture)
    print(f"written: {target} ({target.stat().st_size // 1000} kB)")
    return 0


def _hippocampus_picture(data: Path) -> bytes:
    """One sagittal cut of a real scan that training never saw: image, reference and prediction, as a PNG file."""
    with tempfile.TemporaryDirectory() as masks:
        predict(HIPPOCAMPUS, data / "imagesTr" / HELD_OUT, masks)
        prediction = read_mask(Path(masks, HELD_OUT)).array
    image, reference = read(data / "imagesTr" / HELD_OUT), read_mask(data / "labelsTr" / HELD_OUT).array
    cut = slice(SAGITTAL_CUT, SAGITTAL_CUT + 1)
    shown = overlay(image.array[cut], reference[cut], prediction[cut], SUBFIELDS, image.affine)
    return _with_few_colours(to_png(shown))


def _demo_picture() -> bytes:
    """Image, reference and prediction of one of the demonstration's scans, as a PNG file."""
    with tempfile.TemporaryDirectory() as temporary:
        scans, references, masks = (Path(temporary, name) for name in ("scans", "references", "masks"))
        make_scans(scans, references)
        predict(BUNDLE, scans / CASE, masks)
        image = read(scans / CASE)
        reference, prediction = (read_mask(folder / CASE).array for folder in (references, masks))
    return _with_few_colours(to_png(overlay(image.array, reference, prediction, LABELS, image.grid)))


def _with_few_colours(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours, in a fifth of the bytes."""
    stream = io.BytesIO()
    # An octree keeps the colours of small structures; Pillow's other method drops them.
    picture = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
