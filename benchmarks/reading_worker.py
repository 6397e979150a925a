"""Read one image in one way, in a fresh process; the last line of output is JSON with what it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from numpy.typing import NDArray

MIB = 1 << 20


def by_medseg() -> Callable[[Path], NDArray]:
    """medseg's strict reader: sizes, checksums, geometry and values checked."""
    from medseg.data.read import read

    return lambda path: read(path).array


def by_nibabel() -> Callable[[Path], NDArray]:
    """nibabel, all voxels loaded."""
    import nibabel
    import numpy as np

    return lambda path: np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def by_simpleitk() -> Callable[[Path], NDArray]:
    """SimpleITK: a file, or the only series of a folder."""
    import SimpleITK

    def read(path: Path) -> NDArray:
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)) if path.is_dir() else str(path)
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names))

    return read


WAYS = {"medseg": by_medseg, "nibabel": by_nibabel, "SimpleITK": by_simpleitk}


def main(way: str, path: str, voxels: str) -> int:
    """Read ``path``; write the voxels, (X, Y, Z), to ``voxels`` for the comparison."""
    import numpy as np

    read = WAYS[way]()
    before = _peak_mib()
    started, cpu_started = time.perf_counter(), time.process_time()
    array = read(Path(path))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    growth = _peak_mib() - before
    np.save(voxels, array.transpose() if way == "SimpleITK" else array)
    took = {"seconds": seconds, "cpu_seconds": cpu_seconds, "growth_mib": growth, "run_growth_mib": growth}
    print(json.dumps({**took, "label_seconds": 0.0, "prepare_seconds": 0.0}))
    return 0


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
