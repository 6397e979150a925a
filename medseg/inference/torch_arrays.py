"""PyTorch's array operations; see ``medseg.inference.arrays``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor


class TorchArrays:
    """PyTorch's."""

    def shared(self, array: NDArray) -> Tensor:
        """A tensor on the array's memory."""
        return torch.from_numpy(array)

    def empty_like(self, array: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor of the same type and device, not filled."""
        return array.new_empty(tuple(shape))

    def joined(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one behind the other."""
        return torch.cat(list(parts), axis)

    def copied(self, array: Tensor) -> Tensor:
        """A copy."""
        return array.clone()

    def matrix_like(self, matrix: NDArray, array: Tensor) -> Tensor:
        """A matrix of another tensor's type and device."""
        return torch.as_tensor(matrix, dtype=array.dtype, device=array.device)

    def mark_higher(self, labels: Tensor, label: int, score: Tensor, best: Tensor) -> Tensor:
        """Write ``label`` where ``score`` is above ``best``; returns the higher of the two."""
        marks = (score > best).to(labels.dtype).mul_(label)
        torch.maximum(labels, marks, out=labels)
        return torch.maximum(best, score, out=best)

    def softmax(self, logits: Tensor) -> Iterator[Tensor]:
        """Each class's probabilities in turn."""
        largest = logits[0].clone()
        for scores in logits[1:]:
            torch.maximum(largest, scores, out=largest)
        total = torch.zeros_like(largest)
        for scores in logits:
            total += torch.exp(scores - largest)
        for scores in logits:
            yield torch.exp(scores - largest).div_(total)

    def sigmoid(self, logits: Tensor) -> Tensor:
        """From logits to probabilities."""
        return torch.sigmoid(logits)
