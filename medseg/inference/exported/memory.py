"""What a case of an exported bundle takes in memory, stated before it is run, and held to what it may take.

As ``medseg.inference.bundle_plan``, without PyTorch: what a pass of a window takes was measured at the export.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.inference.input_checks import FLOAT_BYTES
from medseg.inference.options import PredictOptions
from medseg.inference.slabs import rows_at_once
from medseg.inference.steps.description import Description
from medseg.inference.steps.image import Image
from medseg.inference.steps.spatial import is_oblique
from medseg.inference.windows import WindowPlan, Windows, windows_of

PASS_SHARES = {"torchscript": (1.6, 0.0), "onnx": (1.0, 1.8), "openvino": (1.7, 0.0)}
"""What a runtime takes, in units of what PyTorch has in use for a window: for each window of a batch, and besides.

Measured on U-Nets of 48 and 96 voxels in batches of 1 and 2, at the upper end: ONNX Runtime lays windows out for its
convolutions, most of all those of many features.
"""

ROWS_IN_USE = 8
"""Of one class, on the network's grid, while rows that closed are restored."""


@dataclass(frozen=True)
class ExportedPlan:
    """How a case will be run, and what that takes.

    Args:
        case: Its id.
        model: Of the bundle that was exported.
        size: Voxels along the axes of the scan's own grid.
        windows: Where they lie on the network's grid.
        batch: Windows per pass.
        is_in_file: Whether the sums of the open slab are kept in a file.
        is_streamed: Whether labels are made slab by slab; otherwise the scores of all classes exist at once.
        keeps_probabilities: Whether the probabilities are given as well.
    """

    case: str
    model: Description
    size: tuple[int, ...]
    windows: Windows
    batch: int
    is_in_file: bool = False
    is_streamed: bool = True
    keeps_probabilities: bool = False

    @property
    def window(self) -> WindowPlan:
        """The bundle's windows, run as planned."""
        return replace(self.model.window, batch=self.batch, overlap=self.windows.overlap)

    @property
    def spill(self) -> Path | None:
        """Folder of the file that holds the sums; None: memory."""
        return Path(tempfile.gettempdir()) if self.is_in_file else None

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by what they hold; not all are held at the same time, see ``peak_bytes``."""
        return {
            "preparing": self._preparing_bytes(),
            "image": self._image_bytes(),
            "windows": self._window_bytes(),
            "sums": self._sum_bytes(),
            "restoring": self._restoring_bytes(),
            "mask": 2 * self._label_bytes(),
        }

    @property
    def peak_bytes(self) -> int:
        """The most that the case takes at once."""
        parts = self.parts
        running = parts["image"] + parts["sums"] + self._label_bytes() + max(parts["windows"], parts["restoring"])
        return max(parts["preparing"], running, parts["image"] + parts["mask"])

    def _preparing_bytes(self) -> int:
        channels = len(self.model.channels)
        read, made = channels * math.prod(self.size), channels * math.prod(self.windows.image)
        return int(FLOAT_BYTES * (3.3 * max(read, made) + read))

    def _image_bytes(self) -> int:
        size, padded = math.prod(self.windows.image), math.prod(self.windows.padded)
        return FLOAT_BYTES * len(self.model.channels) * (size + (padded if padded != size else 0))

    def _window_bytes(self) -> int:
        taken = FLOAT_BYTES * (len(self.model.channels) + self.model.scores + 1) * math.prod(self.windows.roi)
        per_window, besides = PASS_SHARES[self.model.to]
        return self.batch * taken + int((per_window * self.batch + besides) * self.model.pass_bytes)

    def _sum_bytes(self) -> int:
        kept = FLOAT_BYTES * (1 + (0 if self.is_in_file else self.model.scores)) * self.windows.slab_voxels()
        whole = 0 if self.is_streamed else 2 * FLOAT_BYTES * self.model.scores * math.prod(self.windows.image)
        return kept + whole

    def _restoring_bytes(self) -> int:
        """Of rows that close: scores of one class on either grid, and the last rows of each kept for the next."""
        classes, axis, roi = self.model.scores, self.windows.slab_axis, self.windows.roi
        restored = math.prod(self.size)
        if not self.is_streamed:
            return 6 * FLOAT_BYTES * max(restored, math.prod(self.windows.image))
        row, restored_row = self.windows.slab_voxels() // roi[axis], restored // self.windows.padded[axis]
        closing = min(roi[axis], rows_at_once((classes, roi[axis], row), 1))
        last_batch = self.batch * classes * math.prod(roi)
        scores = (ROWS_IN_USE * row + 4 * restored_row) * closing + classes * restored_row
        return FLOAT_BYTES * (last_batch + scores)

    def _label_bytes(self) -> int:
        scores = FLOAT_BYTES * self.model.scores if self.keeps_probabilities else 0
        return ((1 if len(self.model.labels) <= 256 else 4) + scores) * math.prod(self.size)


def plan_of(
    case: str, image: Image, size: tuple[int, ...], model: Description, options: PredictOptions
) -> ExportedPlan:
    """How a case will be run where memory does not matter.

    Args:
        case: Its id.
        image: After the steps.
        size: Voxels along the axes of the scan's own grid.
        model: Of the bundle that was exported.
        options: How to run it.

    Raises:
        ImageError: ``IMAGE_EMPTY``.
    """
    overlap = model.window.overlap if options.overlap is None else (options.overlap,) * len(image.size)
    window = replace(model.window, overlap=overlap)
    return ExportedPlan(
        case=case,
        model=model,
        size=size,
        windows=windows_of(image.size, window),
        batch=model.window.batch,
        is_streamed=not is_oblique(image),
        keeps_probabilities=options.probabilities,
    )


def smaller_plans(plan: ExportedPlan) -> Iterator[ExportedPlan]:
    """The plan, and smaller ones: a window at a time, then the sums in a file as well; masks are the same with each."""
    yield plan
    if plan.batch > 1:
        plan = replace(plan, batch=1)
        yield plan
    yield replace(plan, is_in_file=True)
