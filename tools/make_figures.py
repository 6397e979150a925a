#!/usr/bin/env python3
"""Draw the pictures of README and docs from synthetic scans and the shipped bundle."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from medseg.data.images import read, read_mask
from medseg.data.phantom import LABELS
from medseg.demonstration import BUNDLE, make_scans
from medseg.evaluation.figures.cases import overlay, to_png
from medseg.inference.predict import predict

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CASE = "straight.nii.gz"


def main(arguments: list[str] | None = None) -> int:
    """Write `demo.png`; the bundle must have its weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="FOLDER", help="default: docs/images")
    folder = parser.parse_args(arguments).output
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "demo.png"
    target.write_bytes(_demo_picture())
    print(f"written: {target} ({target.stat().st_size // 1000} kB)")
    return 0


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
