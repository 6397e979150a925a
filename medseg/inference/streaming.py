"""Labels of one image from a network's passes over its windows, slab by slab."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medseg.inference.input_checks import check_output
from medseg.inference.restore import LabelRestorer
from medseg.inference.running.passes import Passes
from medseg.inference.sliding_window import SlidingWindow


def run_into(restorer: LabelRestorer, image: Tensor, window: SlidingWindow, passes: Passes, case_id: str) -> None:
    """Run a network over an image; the restorer holds the labels afterwards.

    Args:
        restorer: Takes the slabs.
        image: (channels, …), on any device.
        window: Its windows.
        passes: Of the network, chosen for these windows.
        case_id: Named in errors.

    Raises:
        ImageError: ``OUTPUT_NONFINITE`` and others of what the network gives.
    """
    for closed in window.slabs(image.to(passes.device), passes):
        for slab in passes.finish(closed):
            check_output(is_finite(slab.logits), case_id)
            restorer.add(replace(slab, logits=slab.logits.float().cpu()))


def is_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite; the extremes tell, and take no copy."""
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values)) if values.numel() else True
