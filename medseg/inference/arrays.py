"""The few array operations of windows, slabs and labels that NumPy and PyTorch spell differently.

Slicing, sums, products and ``reshape`` are the same for both and are written as such. NumPy's stand here; PyTorch's are
in ``medseg.inference.torch_arrays``, which is imported by whoever has tensors to give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array or a PyTorch tensor."""

_NUMPY_PADDING = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""NumPy's names of PyTorch's ways of padding."""


class NumpyArrays:
    """NumPy's, and what the others are called.

    There are no sums in 16 bits: NumPy has no bfloat16, and float16 ends at 65504, which sums of logits may pass.

    Attributes:
        single: The library's name of 32-bit floats.
        half: Its name of the shortest floats that logits may be summed in.
    """

    single: Any = np.dtype(np.float32)
    half: Any = single

    def share(self, array: NDArray) -> Array:
        """The library's view of a NumPy array; writing to it writes to the array."""
        return array

    def to_numpy(self, array: Array) -> NDArray:
        """The values as a NumPy array."""
        return array

    def place(self, array: NDArray, beside: Array) -> Array:
        """A NumPy array's values where another array lies."""
        return array

    def convert(self, matrix: NDArray, like: Array) -> Array:
        """A matrix in another array's type, where that lies."""
        return matrix.astype(like.dtype)

    def is_in_ram(self, array: Array) -> bool:
        """Whether the values lie in the machine's own memory."""
        return True

    def to_ram(self, array: Array) -> Array:
        """The values as 32-bit floats in the machine's own memory; no copy where they are such."""
        return array.astype(np.float32, copy=False)

    def view(self, buffer: Any, shape: Sequence[int], kind: Any) -> Array:
        """An array on the bytes of a buffer."""
        return np.frombuffer(buffer, kind).reshape(tuple(shape))

    def zeros(self, shape: Sequence[int], kind: Any, beside: Array) -> Array:
        """Zeros where another array lies."""
        return np.zeros(shape, kind)

    def empty_like(self, array: Array, shape: Sequence[int]) -> Array:
        """An array of the same type, not filled."""
        return np.empty(shape, array.dtype)

    def join(self, parts: Sequence[Array], axis: int) -> Array:
        """Arrays one behind the other."""
        return np.concatenate(parts, axis)

    def stack(self, parts: Sequence[Array]) -> Array:
        """Arrays along a new first axis."""
        return np.stack(parts)

    def copy(self, array: Array) -> Array:
        """A copy."""
        return array.copy()

    def pad(self, image: Array, amounts: Sequence[tuple[int, int]], mode: str, value: float) -> Array:
        """An image (channels, …) with voxels before and after each spatial axis; ``mode`` is one of PyTorch's."""
        options = {"constant_values": value} if mode == "constant" else {}
        return np.pad(image, [(0, 0), *amounts], mode=_NUMPY_PADDING[mode], **options)  # type: ignore[call-overload]

    def add_weighted(self, sums: Array, scores: Array, weights: Array) -> None:
        """Add scores (C, …), each voxel times its weight, to sums."""
        for one_sum, one_score in zip(sums, scores, strict=True):
            one_sum += one_score * weights  # noqa: PLW2901 - in place

    def divide(self, sums: Array, totals: Array) -> Array:
        """Sums over totals as 32-bit floats, in the sums' own memory where they are such."""
        return np.divide(sums, totals, out=sums)

    def is_finite(self, values: Array) -> bool:
        """Whether none is NaN or infinite; the extremes tell, and take no array of the same size."""
        return not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))

    def mark_higher(self, labels: Array, label: int, score: Array, best: Array) -> Array:
        """Write ``label``, the highest so far, where ``score`` is above ``best``; returns the higher score."""
        np.maximum(labels, (score > best) * labels.dtype.type(label), out=labels)
        return np.maximum(best, score, out=best)

    def softmax(self, logits: Array) -> Iterator[Array]:
        """Each class's probabilities in turn, without a second array of all classes."""
        largest = logits.max(axis=0)
        total = np.zeros_like(largest)
        for scores in logits:
            total += np.exp(scores - largest)
        for scores in logits:
            yield np.exp(scores - largest) / total

    def sigmoid(self, logits: Array) -> Array:
        """From logits to probabilities; of very negative ones 0."""
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-logits))


Arrays = NumpyArrays
"""Array operations of one library: NumPy's, or those of a class that overrides them all."""


def narrow(array: Array, axis: int, start: int, stop: int) -> Array:
    """The part from ``start`` to before ``stop`` along an axis."""
    return array[(*[slice(None)] * axis, slice(start, stop))]


@singledispatch
def arrays_of(array: Array) -> Arrays:
    """The operations for an array's library.

    Raises:
        TypeError: It is no array of a library that is known.
    """
    raise TypeError(f"a {type(array).__name__} is no array")


@arrays_of.register
def _numpy(array: np.ndarray) -> Arrays:
    return NumpyArrays()
