#!/usr/bin/env python3
"""Run a network over a volume's windows one way, in this process; the last line tells what it took, as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from watches import Growth, Stopwatch
from window_networks import NETWORKS, build
from window_variants import VARIANTS, Work


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run, label; returns 0."""
    parsed = _parser().parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    for module in VARIANTS[parsed.variant].modules:
        importlib.import_module(module)
    image = torch.from_numpy(np.load(parsed.volume))[None]
    how = (NETWORKS[parsed.network].classes, tuple(parsed.window), parsed.overlap, parsed.batch, parsed.cache)
    work = Work(build(parsed.network), image, *how)
    with torch.inference_mode():
        print(json.dumps(_measured(work, parsed.variant, parsed.labels)))
    return 0


def _measured(work: Work, variant: str, labels: Path) -> dict[str, float]:
    whole, watch = Growth(), Stopwatch()
    prepared = VARIANTS[variant].prepare(work)
    prepare_seconds, _ = watch.lap()
    prepare_mib = whole.mib()
    proper, watch = Growth(), Stopwatch()
    found = prepared.run()
    seconds, cpu_seconds = watch.lap() if prepared.cpu_seconds is None else _reckoned(prepared.cpu_seconds)
    mask = prepared.label(found) if prepared.label else None
    label_seconds, label_cpu_seconds = watch.lap() if prepared.label else (0.0, 0.0)
    growth = {"growth_mib": max(prepare_mib, whole.mib()), "run_growth_mib": proper.mib()}
    if mask is not None:
        np.save(labels, mask.astype(np.uint8))
    return {
        "seconds": seconds + label_seconds,
        "cpu_seconds": cpu_seconds + label_cpu_seconds,
        "label_seconds": label_seconds,
        "prepare_seconds": prepare_seconds,
        **growth,
    }


def _reckoned(cpu_seconds: float) -> tuple[float, float]:
    return cpu_seconds / torch.get_num_threads(), cpu_seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("volume", type=Path, help="npy, (X, Y, Z) float32")
    parser.add_argument("labels", type=Path, help="npy to write")
    parser.add_argument("--window", type=int, nargs=3, required=True)
    parser.add_argument("--overlap", type=float, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for converted networks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
