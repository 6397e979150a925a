"""A network's passes over batches of windows: device, precision, mirrorings and the runtime that fits the windows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.allocator import fit_allocator
from medseg.bundle.load import Bundle
from medseg.errors import ImageError, UsageError
from medseg.inference.options import PredictOptions
from medseg.inference.running.artefacts import default_cache
from medseg.inference.running.backends import Backend, build_backend, chosen_backend
from medseg.inference.running.folding import folded
from medseg.inference.running.heads import Split, split
from medseg.inference.running.threads import pytorch_threads
from medseg.inference.running.tuning import Choice
from medseg.inference.slabs import Slab
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.windows import Windowing


class Passes:
    """A bundle's network on its device.

    Args:
        bundle: Its network is moved there.
        options: Device, precision, mirrorings, threads and backend.
        on_windows: Called with the number of windows of each batch that is done.
        keeps: Whether converted networks and choices are kept in the cache folder.

    Raises:
        UsageError: ``TTA_NOT_OFFERED``, or the device is missing.
    """

    def __init__(
        self, bundle: Bundle, options: PredictOptions, on_windows: Callable[[int], None], keeps: bool = True
    ) -> None:
        self.bundle, self.options, self.device = bundle, options, options.torch_device
        self.on_windows, self.keeps = on_windows, keeps
        layout = torch.channels_last_3d if bundle.spatial_dims == 3 else torch.channels_last
        self._own = bundle.network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self.network = folded(self._own)
        self._classes = len(bundle.labels)
        self.mirrorings = _mirrorings(bundle, options)
        self.choices: dict[Path, Choice | None] = {}
        self.fallen_back = ""
        self._choice: Choice | None = None
        self._batch = 1
        self._backend = Backend("torch", self.network)
        self._backends: dict[tuple[str, Windowing, bool, int], Backend] = {}
        self._split: Split | None = None
        self._whole_split: Split | None = None
        self._is_tried = False
        if self.device.type == "cpu":
            fit_allocator(is_memory_limited=options.max_ram is not None)

    @property
    def note(self) -> str:
        """Why the runtime is not the one that was asked for, or that was to be tried, if it is not."""
        return str(self._backend.note or (self.fallen_back if self._choice else ""))

    @property
    def backend(self) -> str:
        """The runtime that was chosen last."""
        return self._backend.name

    @property
    def run_by(self) -> dict[str, Any]:
        """What runs the windows, for a record."""
        timed = {"chosen_by": "timing" if self._choice else "rule"}
        return {"backend": self.backend, "windows_at_a_time": self._batch, "threads": self.threads, **timed}

    @property
    def threads(self) -> int:
        """Of a pass on the CPU."""
        return (self._choice.threads if self._choice else self.options.threads) or torch.get_num_threads()

    def use(self, choice: Choice | None) -> None:
        """Run the windows that are chosen for next as timing found best; None: by the rule that counts them."""
        self._choice = choice

    def apart(self) -> Passes:
        """The same network, with runtimes of its own, to try them."""
        other = copy.copy(self)
        other._backends = {}
        return other

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
        self._backend, self._batch = Backend("torch", network), window.windowing(image.shape).batch if window else 1
        if window is None or self.options.amp or self.options.backend == "torch" or not is_module:
            return
        windows = window.windows(image.shape[1:])
        name = chosen_backend(self.options.backend, network, len(windows) * math.prod(windows.roi))
        name = self._choice.backend if self._choice else name
        key = (name, window.windowing(image.shape), self._split is not None, self.threads)
        if key not in self._backends:
            with pytorch_threads(self.threads):
                self._backends[key] = build_backend(network, *key[:2], default_cache(), keeps=self.keeps)
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
            made = split(self._own, (1, *windowing.shape[1:]), self._classes)
            self._whole_split = made and replace(made, body=folded(made.body))
            self._is_tried = True
        return self._whole_split

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Open while the network runs, with its precision and number of threads."""
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        with pytorch_threads(self.threads), torch.autocast(self.device.type, dtype=half, enabled=self.options.amp):
            yield

    def __call__(self, windows: Tensor) -> Tensor:
        """Mean logits over the mirrorings of a batch of windows (N, channels, …).

        Raises:
            ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
        """
        mean = self.logits(windows)
        for axes in self.mirrorings[1:]:
            mean = mean + self.logits(windows.flip(axes)).flip(axes)
        self.on_windows(len(windows))
        return mean / len(self.mirrorings) if len(self.mirrorings) > 1 else mean

    def logits(self, windows: Tensor) -> Tensor:
        """What the runtime gives for a batch of windows, once and not counted.

        Raises:
            ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
        """
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
