"""The few array operations of restoring labels that NumPy and PyTorch spell differently.

Slicing, products and ``reshape`` are the same for both and are written as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array or a PyTorch tensor."""


class Arrays(Protocol):
    """Array operations of one library."""

    def shared(self, array: NDArray) -> Array:
        """The library's view of a NumPy array; writing to it writes to the array."""

    def empty_like(self, array: Array, shape: Sequence[int]) -> Array:
        """An array of the same type, not filled."""

    def joined(self, parts: Sequence[Array], axis: int) -> Array:
        """Arrays one behind the other."""

    def copied(self, array: Array) -> Array:
        """A copy."""

    def matrix_like(self, matrix: NDArray, array: Array) -> Array:
        """A matrix of another array's type."""

    def mark_higher(self, labels: Array, label: int, score: Array, best: Array) -> Array:
        """Write ``label``, the highest so far, where ``score`` is above ``best``; returns the higher score."""

    def softmax(self, logits: Array) -> Iterator[Array]:
        """Each class's probabilities in turn, without a second array of all classes."""

    def sigmoid(self, logits: Array) -> Array:
        """From logits to probabilities."""


class NumpyArrays:
    """NumPy's."""

    def shared(self, array: NDArray) -> NDArray:
        """The array itself."""
        return array

    def empty_like(self, array: NDArray, shape: Sequence[int]) -> NDArray:
        """An array of the same type, not filled."""
        return np.empty(shape, array.dtype)

    def joined(self, parts: Sequence[NDArray], axis: int) -> NDArray:
        """Arrays one behind the other."""
        return np.concatenate(parts, axis)

    def copied(self, array: NDArray) -> NDArray:
        """A copy."""
        return array.copy()

    def matrix_like(self, matrix: NDArray, array: NDArray) -> NDArray:
        """A matrix of another array's type."""
        return matrix.astype(array.dtype)

    def mark_higher(self, labels: NDArray, label: int, score: NDArray, best: NDArray) -> NDArray:
        """Write ``label`` where ``score`` is above ``best``; returns the higher of the two."""
        np.maximum(labels, (score > best) * labels.dtype.type(label), out=labels)
        return np.maximum(best, score, out=best)

    def softmax(self, logits: NDArray) -> Iterator[NDArray]:
        """Each class's probabilities in turn."""
        largest = logits.max(axis=0)
        total = np.zeros_like(largest)
        for scores in logits:
            total += np.exp(scores - largest)
        for scores in logits:
            yield np.exp(scores - largest) / total

    def sigmoid(self, logits: NDArray) -> NDArray:
        """From logits to probabilities; of very negative ones 0."""
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-logits))


def arrays_of(array: Array) -> Arrays:
    """The operations for an array's library."""
    if isinstance(array, np.ndarray):
        return NumpyArrays()
    from medseg.inference.torch_arrays import TorchArrays

    return TorchArrays()
