"""A network exported to TorchScript, run by PyTorch; apart from the other runtimes, which must not import it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.inference.runtimes.torch_runtime import use_threads
from medseg.inference.windows import Run


def open_torchscript(folder: Path, threads: int | None) -> Run:
    """The network of a folder, frozen, with so many of PyTorch's threads; None leaves them as they are."""
    loaded = torch.jit.load(str(folder / "network.pt"), map_location="cpu").eval()
    network = torch.jit.optimize_for_inference(torch.jit.freeze(loaded))

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), use_threads(threads):
            return network(torch.from_numpy(windows)).numpy()

    return run
