"""What PyTorch alone has: sums in 16 bits, and 32 bits again when they are divided."""

import torch

from medseg.inference.torch_arrays import TorchArrays


def test_sums_in_16_bits_are_added_in_32_and_divided_into_32():
    arrays = TorchArrays()
    sums = arrays.zeros((1, 4), arrays.half, torch.zeros(1))
    arrays.add_weighted(sums, torch.full((1, 4), 3.0), torch.full((4,), 0.5))
    assert sums.dtype == torch.bfloat16
    means = arrays.divide(sums, torch.full((1, 4), 0.5))
    assert means.dtype == torch.float32
    assert means.tolist() == [[3.0] * 4]


def test_what_lies_in_memory_as_floats_is_not_copied():
    values = torch.ones(3)
    assert TorchArrays().to_ram(values) is values
    assert TorchArrays().to_ram(values.half()).dtype == torch.float32
