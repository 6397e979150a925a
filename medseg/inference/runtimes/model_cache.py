"""What another runtime made of a network, kept in the cache folder with the comparison that it passed.

It is trusted without a new comparison only where its bytes are those that were compared with PyTorch on this
kind of processor, with the same versions of both runtimes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medseg.errors import OutputError
from medseg.files import write_json, write_whole
from medseg.inference.runtimes.graph import FAILURES, trace
from medseg.inference.runtimes.machine import identify_cpu
from medseg.inference.windows import Windowing

NAME_CHARACTERS = 32


@dataclass(frozen=True)
class CachedModel:
    """A file with the compiled form of a network.

    Args:
        path: The file; beside it lies what the comparison with PyTorch gave.
    """

    path: Path

    @classmethod
    def of(cls, name: str, windowing: Windowing, cache: Path) -> CachedModel:
        """The file of a network for batches of windows on this kind of processor.

        Args:
            name: The network's ``fingerprint``.
            windowing: The batches.
            cache: The folder that it lies in.
        """
        here = hashlib.sha256(identify_cpu().encode()).hexdigest()[:8]
        return cls(cache / f"{name}-{windowing.batch}-{here}.blob")

    def read(self) -> tuple[bytes, float] | None:
        """The bytes, and how far their logits were from PyTorch's; None where there are none that can be trusted."""
        try:
            content, record = self.path.read_bytes(), json.loads(self._record.read_text(encoding="utf8"))
            is_same = record["sha256"] == hashlib.sha256(content).hexdigest()
            return (content, float(record["largest_difference"])) if is_same else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write(self, content: bytes, difference: float) -> None:
        """Keep the bytes and what the comparison gave; a folder that cannot be written is passed over."""
        record = {"sha256": hashlib.sha256(content).hexdigest(), "largest_difference": difference}
        with contextlib.suppress(OutputError):
            write_whole(self.path, lambda file: file.write(content))
            write_json(record, self._record)

    @property
    def _record(self) -> Path:
        return self.path.with_suffix(".json")


def find_cache_folder() -> Path:
    """The folder in the user's cache where converted networks and choices are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "medseg", "backends")


def fingerprint(network: nn.Module, windowing: Windowing, version: str) -> str | None:
    """A name for a converted network: changes with its operations, weights, window and the runtime's version.

    Batches of any size share it.

    Returns:
        None where the operations depend on what the windows hold, so that nothing tells it from other networks.
    """
    shape = (1, *windowing.shape[1:])
    try:
        operations = trace(network, shape).text
    except FAILURES:
        return None
    digest = hashlib.sha256(f"{network}{operations}{shape}{version}{torch.__version__}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:NAME_CHARACTERS]
