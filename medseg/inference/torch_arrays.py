"""PyTorch's array operations; see ``medseg.inference.arrays``. Tensors are plain ones, never MONAI's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.inference.arrays import Arrays, NumpyArrays, arrays_of


class TorchArrays(NumpyArrays):
    """PyTorch's, all of them; sums may be kept in 16 bits."""

    single: Any = torch.float32
    half: Any = torch.bfloat16

    def share(self, array: NDArray) -> Tensor:
        """A tensor on the array's memory."""
        return torch.from_numpy(array)

    def to_numpy(self, array: Tensor) -> NDArray:
        """An array on the tensor's memory, or on a copy of it in the machine's own."""
        return array.cpu().numpy()

    def place(self, array: NDArray, beside: Tensor) -> Tensor:
        """An array's values on another tensor's device."""
        return torch.as_tensor(array, device=beside.device)

    def convert(self, matrix: NDArray, like: Tensor) -> Tensor:
        """A matrix in another tensor's type, on its device."""
        return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)

    def is_in_ram(self, array: Tensor) -> bool:
        """Whether the values lie in the machine's own memory, not in a GPU's."""
        return array.device.type == "cpu"

    def to_ram(self, array: Tensor) -> Tensor:
        """The values as 32-bit floats in the machine's own memory; no copy where they are such."""
        return array.float().cpu()

    def view(self, buffer: Any, shape: Sequence[int], kind: torch.dtype) -> Tensor:
        """A tensor on the bytes of a buffer."""
        return torch.frombuffer(buffer, dtype=kind).reshape(tuple(shape))

    def zeros(self, shape: Sequence[int], kind: torch.dtype, beside: Tensor) -> Tensor:
        """Zeros on another tensor's device."""
        return torch.zeros(tuple(shape), dtype=kind, device=beside.device)

    def empty_like(self, array: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor of the same type and device, not filled."""
        return array.new_empty(tuple(shape))

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one behind the other."""
        return torch.cat(list(parts), axis)

    def stack(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors along a new first axis."""
        return torch.stack(list(parts))

    def copy(self, array: Tensor) -> Tensor:
        """A copy."""
        return array.clone()

    def pad(self, image: Tensor, amounts: Sequence[tuple[int, int]], mode: str, value: float) -> Tensor:
        """An image (channels, …) with voxels before and after each spatial axis."""
        from_last = [amount for before_after in reversed(amounts) for amount in before_after]
        options = {"value": value} if mode == "constant" else {}
        return torch.nn.functional.pad(image[None], from_last, mode=mode, **options)[0]

    def add_weighted(self, sums: Tensor, scores: Tensor, weights: Tensor) -> None:
        """Add scores (C, …), each voxel times its weight, to sums."""
        if sums.dtype == torch.float32:
            sums.addcmul_(scores.float(), weights)
        else:
            sums += scores.float() * weights

    def divide(self, sums: Tensor, totals: Tensor) -> Tensor:
        """Sums over totals as 32-bit floats, in the sums' own memory where they are such."""
        return sums.float().div_(totals)

    def is_finite(self, values: Tensor) -> bool:
        """Whether none is NaN or infinite; the extremes tell, and take no copy."""
        return not values.numel() or all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values))

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


@arrays_of.register
def _torch(array: Tensor) -> Arrays:
    return TorchArrays()
