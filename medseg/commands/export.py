"""`medseg bundle export`: parse, export, print."""

from __future__ import annotations

import argparse
import sys

import medseg

SUMMARY = "export a bundle whole, so that it predicts without PyTorch"
EXAMPLE = "medseg bundle export hippocampus_mr_segmentation hippocampus --to openvino"

TARGETS = ("torchscript", "onnx", "openvino")
"""As in ``medseg.inference.exported``, which is not imported for its weight until a bundle is exported."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of `medseg bundle export`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or the name of one that medseg ships")
    parser.add_argument("output", metavar="OUTPUT", help="the exported bundle's folder; must not be there yet")
    parser.add_argument("--to", required=True, choices=TARGETS, help="what will run the network")
    parser.add_argument("--allow", action="append", default=[], metavar="CODE", help="accept an error code knowingly")
    parser.set_defaults(run=run_export)


def run_export(parsed: argparse.Namespace) -> int:
    """Export, tell of each step; returns the exit code."""

    def tell(step: str) -> None:
        if not parsed.quiet:
            print(f"{step} …", file=sys.stderr)

    done = medseg.export(parsed.bundle, parsed.output, to=parsed.to, allow=parsed.allow, on_step=tell)
    print(f"{done.description.name} {done.description.version} in {done.folder} ({done.bytes / 1e6:.1f} MB)")
    print(f"  logits: {done.logits_apart:.1g} of the largest apart from PyTorch's")
    print(f"  masks: {done.equal:.4%} of a phantom's voxels as the bundle has them")
    allowing = " --allow BUNDLE_RUNS_CODE" if parsed.to == "torchscript" else ""  # TorchScript is a program.
    print(f"next: medseg predict {done.folder} IMAGES MASKS{allowing}")
    return 0
