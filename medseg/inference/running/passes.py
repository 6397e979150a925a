"""A network's passes over batches of windows: device, precision, mirrorings and the runtime that fits the windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn

from medseg.bundle.load import Bundle
from medseg.errors import ImageError, UsageError
from medseg.inference.options import PredictOptions
from medseg.inference.running.allocator import keep_freed_memory
from medseg.inference.running.backends import Backend, build_backend, chosen_backend, default_cache
from medseg.inference.running.heads import Split, split
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.windows import Slab, Windowing


class Passes:
    """A bundle's network on its device.

    Args:
        bundle: Its network is moved there.
        options: Device, precision, mirrorings and backend.
        on_windows: Called with the number of windows of each batch that is done.

    Raises:
        UsageError: ``TTA_NOT_OFFERED``, or the device is missing.
    """

    def __init__(self, bundle: Bundle, options: PredictOptions, on_windows: Callable[[int], None]) -> None:
        self.options, self.device, self.on_windows = options, options.torch_device, on_windows
        layout = torch.channels_last_3d if bundle.spatial_dims == 3 else torch.channels_last
        self.network = bundle.network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self._classes = len(bundle.labels)
        self._mirrorings = _mirrorings(bundle, options)
        self._backend = Backend("torch", self.network)
        self._backends: dict[tuple[str, Windowing, bool], Backend] = {}
        self._split: Split | None = None
        self._whole_split: Split | None = None
        self._is_tried = False
        if self.device.type == "cpu":
            keep_freed_memory()

    @property
    def note(self) -> str:
        """Why the runtime is not the one that was asked for, if it is not."""
        return str(self._backend.note or "")

    def choose(self, window: SlidingWindow | None, image: Tensor, *, splits: bool = False) -> None:
        """Choose the runtime for an image's windows; a network is converted once for each size of window.

        Args:
            window: Its windows; None: they are another inferer's.
            image: (channels, …).
            splits: Leave the last layer to ``finish`` where less is to be averaged then.
        """
        is_module = isinstance(self.network, nn.Module)
        self._split = self._split_for(window.windowing(image.shape)) if window and splits and is_module else None
        network = self._split.body if self._split else self.network
        self._backend = Backend("torch", network)
        if window is None or self.options.amp or self.options.backend == "torch" or not is_module:
            return
        windows = window.windows(image.shape[1:])
        name = chosen_backend(self.options.backend, network, len(windows) * math.prod(windows.roi))
        key = (name, window.windowing(image.shape), self._split is not None)
        if key not in self._backends:
            self._backends[key] = build_backend(network, *key[:2], default_cache())
        self._backend = self._backends[key]

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """Logits of a slab of what the passes gave."""
        return self._split.finish(slab) if self._split else iter([slab])

    def finished(self, windows: Tensor) -> Tensor:
        """Logits (N, C, …) of windows on their own."""
        outputs = self(windows)
        return self._split.head(outputs) if self._split else outputs

    def _split_for(self, windowing: Windowing) -> Split | None:
        if not self._is_tried:
            self._whole_split = split(self.network, (1, *windowing.shape[1:]), self._classes)
            self._is_tried = True
        return self._whole_split

    def precision(self) -> AbstractContextManager[Any]:
        """Open while the network runs."""
        if not self.options.amp:
            return nullcontext()
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def __call__(self, windows: Tensor) -> Tensor:
        """Mean logits over the mirrorings of a batch of windows (N, channels, …).

        Raises:
            ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
        """
        mean = self._logits(windows)
        for axes in self._mirrorings[1:]:
            mean = mean + self._logits(windows.flip(axes)).flip(axes)
        self.on_windows(len(windows))
        return mean / len(self._mirrorings) if len(self._mirrorings) > 1 else mean

    def _logits(self, windows: Tensor) -> Tensor:
        logits = self._backend.run(windows)
        if not isinstance(logits, Tensor):
            kind = type(logits).__name__
            raise ImageError("OUTPUT_NOT_ONE_TENSOR", "network", f"the network gives a {kind}", "export one output")
        return logits.float()


def _mirrorings(bundle: Bundle, options: PredictOptions) -> list[tuple[int, ...]]:
    """Axes of a batch along which windows are mirrored; the first of them none."""
    axes = bundle.mirror_axes
    if not options.tta:
        return [()]
    if not axes:
        raise UsageError(
            "TTA_NOT_OFFERED",
            bundle.name,
            "its training mirrored along no axis",
            "leave --tta out, or train a bundle with mirror_axes",
        )
    subsets = chain.from_iterable(combinations(axes, size) for size in range(len(axes) + 1))
    return [tuple(axis + 2 for axis in subset) for subset in subsets]
