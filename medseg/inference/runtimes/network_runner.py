"""Runs a network over batches of windows: on its device, in its precision, mirrored, by the runtime that fits them.

What one pass takes in memory is found by running one window and watching PyTorch's allocator.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from medseg.allocator import fit_allocator
from medseg.bundle.load import Bundle
from medseg.errors import UsageError
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.runtimes.backends import Backend, Choice, build_backend, choose_backend
from medseg.inference.runtimes.graph_optimiser import OptimisedNetwork, SplitNetwork, optimise, split_head
from medseg.inference.runtimes.torch_runtime import check_one_tensor, make_noise, pick_device, use_threads
from medseg.inference.slabs import Slab
from medseg.inference.windows import Windowing
from medseg.options import PredictOptions

KEPT_APART = 1.6
"""What the process takes for each byte in use: the C library keeps freed blocks of other sizes for later windows."""

_MEMORY_EVENT = "[memory]"
_LOG_LEVEL, _ERRORS_ALONE = "KINETO_LOG_LEVEL", "9"


class NetworkRunner:
    """A bundle's network on its device.

    Args:
        bundle: An opened bundle; its network is moved to the device.
        options: Device, precision, mirrorings, threads and backend.
        on_windows: Called with the number of windows of each batch that is done.
        keeps: Whether converted networks and choices are kept in the cache folder.

    Raises:
        UsageError: ``OPTION_NOT_OFFERED``, or the device is missing.
    """

    def __init__(
        self, bundle: Bundle, options: PredictOptions, on_windows: Callable[[int], None], keeps: bool = True
    ) -> None:
        self.bundle, self.options, self.device = bundle, options, pick_device(options.device)
        self.on_windows, self.keeps = on_windows, keeps
        layout = torch.channels_last_3d if bundle.spatial_dims == 3 else torch.channels_last
        self._own = bundle.network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self.network = optimise(self._own)
        self._classes = len(bundle.labels)
        self.mirrorings = _list_mirrorings(bundle, options)
        self.choices: dict[Path, Choice | None] = {}
        self.fallen_back = ""
        self._choice: Choice | None = None
        self._batch = 1
        self._backend = Backend("torch", self.network)
        self._backends: dict[tuple[str, Windowing, bool, int], Backend] = {}
        self._split: SplitNetwork | None = None
        self._splits: list[SplitNetwork | None] = []
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
        """How many a pass on the CPU takes."""
        return (self._choice.threads if self._choice else self.options.threads) or torch.get_num_threads()

    def use(self, choice: Choice | None) -> None:
        """Run the windows that are chosen for next as timing found best; None: by the rule that counts them."""
        self._choice = choice

    def copy_for_trial(self) -> NetworkRunner:
        """The same network, with runtimes of its own, to try them."""
        other = copy.copy(self)
        other._backends = {}
        return other

    def choose(self, window: SlidingWindow | None, image: Tensor, *, splits: bool = False) -> None:
        """Choose the runtime for an image's windows; a network is converted once for each size of window.

        Args:
            window: The image's windows; None: they are another inferer's.
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
        name = choose_backend(self.options.backend, network, len(windows) * math.prod(windows.roi))
        name = self._choice.backend if self._choice else name
        key = (name, window.windowing(image.shape), self._split is not None, self.threads)
        if key not in self._backends:
            from medseg.inference.runtimes.conversion import find_cache_folder

            with use_threads(self.threads):
                self._backends[key] = build_backend(network, *key[:2], find_cache_folder(), keeps=self.keeps)
        self._backend = self._backends[key]

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """Logits of a slab of what the passes gave."""
        return self._split.finish(slab) if self._split else iter([slab])

    def finished(self, windows: Tensor) -> Tensor:
        """Logits (N, C, …) of windows on their own."""
        outputs = self(windows)
        return self._split.head(outputs) if self._split else outputs

    def _split_for(self, windowing: Windowing) -> SplitNetwork | None:
        """The network in two, or None; found once, by the first windows."""
        if not self._splits:
            made = split_head(self._own, (1, *windowing.shape[1:]), self._classes)
            self._splits.append(made and replace(made, body=optimise(made.body)))
        return self._splits[0]

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Open while the network runs, with its precision and number of threads."""
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        with use_threads(self.threads), torch.autocast(self.device.type, dtype=half, enabled=self.options.amp):
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
        return check_one_tensor(self._backend.run(windows)).float()


def _list_mirrorings(bundle: Bundle, options: PredictOptions) -> list[tuple[int, ...]]:
    """Axes of a batch along which windows are mirrored; the first of them none."""
    axes = bundle.mirror_axes
    if not options.tta:
        return [()]
    if not axes:
        raise UsageError(
            "OPTION_NOT_OFFERED",
            bundle.name,
            "its training mirrored along no axis",
            "leave --tta out, or train a bundle with mirror_axes",
        )
    subsets = chain.from_iterable(combinations(axes, size) for size in range(len(axes) + 1))
    return [tuple(axis + 2 for axis in subset) for subset in subsets]


@dataclass(frozen=True)
class Footprint:
    """What a pass of one window takes.

    Args:
        channels: Number of channels that it gives.
        live_bytes: The most that its intermediate results take at once in the machine's memory, the result included.
        weight_bytes: Size of the parameters and buffers.
    """

    channels: int
    live_bytes: int
    weight_bytes: int

    def window_bytes(self, batch: int) -> int:
        """By how much the process grows while a batch of windows is run, over and over."""
        return int(KEPT_APART * batch * self.live_bytes)


def measure_footprint(network: nn.Module, window: Sequence[int]) -> Footprint:
    """Run one window of noise.

    Args:
        network: In evaluation mode, on its device.
        window: Shape of one window, (channels, …).

    Raises:
        ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
    """
    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    noise = make_noise((1, *window)).to(device)
    if isinstance(network, OptimisedNetwork):
        with torch.inference_mode():
            network.prepare(noise.shape)  # Its check is no part of a pass.
    output, live = measure_allocation(lambda: network(noise))
    return Footprint(int(check_one_tensor(output).shape[1]), live, sum(each.nbytes for each in tensors))


def measure_allocation(call: Callable[[], object]) -> tuple[object, int]:
    """What ``call`` returns, and the most bytes of the machine's memory that PyTorch held for it at once."""
    with _quiet(), torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        result = call()
    events = [each for each in watch.profiler.kineto_results.events() if each.name() == _MEMORY_EVENT]  # type: ignore[union-attr]
    held = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes() if event.device_type() == torch.autograd.DeviceType.CPU else 0
        most = max(most, held)
    return result, most


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this block the profiler does not tell of its start and end on the error stream, unless asked to."""
    stated = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = _ERRORS_ALONE if stated is None else stated
    try:
        yield
    finally:
        if stated is None:
            del os.environ[_LOG_LEVEL]
