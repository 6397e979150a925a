"""PyTorch's device and threads are as they were asked for, and a network's output is one tensor."""

import pytest
import torch

from medseg.errors import ImageError, UsageError
from medseg.inference.runtimes.torch_runtime import check_one_tensor, make_noise, pick_device, use_threads


@pytest.mark.parametrize(
    ("has_cuda", "name", "device"),
    [
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
        (True, "auto", "cuda"),
        (True, "cuda", "cuda"),
        (True, "cpu", "cpu"),
    ],
)
def test_a_name_stands_for_a_device_of_this_machine(monkeypatch, has_cuda, name, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert pick_device(name) == torch.device(device)


def test_a_device_that_is_missing_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="DEVICE_MISSING") as refused:
        pick_device("cuda")
    assert "--device cpu" in str(refused.value)


@pytest.mark.parametrize("more", [None, 0, 1])
def test_threads_are_set_for_the_block_and_put_back(more):
    before = torch.get_num_threads()
    count = None if more is None else before + more
    with use_threads(count):
        assert torch.get_num_threads() == before + (more or 0)
    assert torch.get_num_threads() == before


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="in the block"), use_threads(before + 1):
        raise RuntimeError("in the block")
    assert torch.get_num_threads() == before


def test_noise_is_the_same_each_time_and_leaves_the_global_seed_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(make_noise((2, 3)), make_noise([2, 3]))
    assert torch.equal(torch.rand(1), expected)
    assert make_noise((0, 3)).shape == (0, 3)


@pytest.mark.parametrize("output", [None, [torch.zeros(1)], {"logits": torch.zeros(1)}])
def test_what_is_not_one_tensor_is_refused_by_its_type(output):
    with pytest.raises(ImageError, match="OUTPUT_NOT_ONE_TENSOR") as refused:
        check_one_tensor(output)
    assert type(output).__name__ in str(refused.value)


def test_one_tensor_is_given_back_itself():
    tensor = torch.zeros(1)
    assert check_one_tensor(tensor) is tensor
