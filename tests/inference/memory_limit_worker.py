"""A process of its own that predicts a case of many classes: how far it grows, and whether it keeps to a limit.

Words: the bundle's folder, the image, a small image to begin with, and whether to allow "any" or the "least" memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import resource
import sys
import threading
from dataclasses import replace
from pathlib import Path

import torch

from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.inference.bundle_plan import plan_case
from medseg.inference.plan import smaller_plans
from medseg.inference.predict import open_predictor
from medseg.inference.predictor import Predictor
from medseg.options import PredictOptions

ALLOWED_BESIDES = 1 << 26
"""Of the limit: what libraries take when they are first used, however small the case."""


def case_of(path: str) -> Case:
    return Case(id=Path(path).stem, images=(path,), label=None, group="one")


def status_bytes(field: str) -> int:
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def watched(call):
    """What ``call`` returns, and the most bytes by which this process grew meanwhile."""
    ctypes.CDLL(None).malloc_trim(0)  # What is free from before would be taken again without growing.
    before = most = status_bytes("RssAnon")
    ended = threading.Event()

    def look():
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, status_bytes("RssAnon"))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        return call(), most - before
    finally:
        ended.set()
        watch.join()


def predictor(root: str, max_ram: int | None) -> Predictor:
    """A network of one layer that cannot be split, so that all classes are summed."""
    bundle = open_bundle(root)
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, len(bundle.labels), 3, padding=1).eval()
    return open_predictor(
        replace(bundle, network=network), PredictOptions(device="cpu", backend="torch", max_ram=max_ram)
    )


def main() -> None:
    root, image, small = sys.argv[1], case_of(sys.argv[2]), case_of(sys.argv[3])
    free = predictor(root, None)
    free(small)
    shapes = free.prepare(image).shapes
    plan = plan_case("one", shapes, free.model, free.options)
    allowed = None
    if sys.argv[4] == "least":
        *_, plan = smaller_plans(plan)
        allowed = plan.peak_bytes
    run = predictor(root, allowed)
    if allowed:
        limit = status_bytes("VmData") + int(1.15 * allowed) + ALLOWED_BESIDES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    labels, grown = watched(lambda: run(image).labels)
    found = {"grown": grown, "planned": plan.peak_bytes, "storage": plan.storage}
    found["labels"] = hashlib.sha256(labels.tobytes()).hexdigest()
    if allowed:
        try:
            free(image)
            found["without"] = "done"
        except (RuntimeError, MemoryError):
            found["without"] = "failed"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
