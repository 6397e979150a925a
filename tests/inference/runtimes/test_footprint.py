"""What a pass takes is measured in bytes of PyTorch's own, on one window of noise."""

import os

import pytest
import torch
from torch import nn

from medseg.inference.runtimes.graph_optimiser import optimise
from medseg.inference.runtimes.network_runner import KEPT_APART, Footprint, measure_allocation, measure_footprint


def test_the_most_that_is_held_at_once_is_counted_exactly():
    def call():
        first = torch.empty(1 << 16, dtype=torch.uint8)
        del first
        kept = torch.empty(1 << 18, dtype=torch.uint8)
        return kept, torch.empty(1 << 17, dtype=torch.uint8)

    assert measure_allocation(call)[1] == (1 << 18) + (1 << 17)
    assert measure_allocation(lambda: 3) == (3, 0)


def test_weights_and_channels_are_told_and_batches_grow_with_their_size():
    found = measure_footprint(nn.Conv2d(2, 5, 3).eval(), (2, 16, 16))
    assert (found.channels, found.weight_bytes) == (5, 4 * (5 * 2 * 9 + 5))
    assert found.live_bytes >= 4 * 5 * 14 * 14
    assert found.window_bytes(3) == int(KEPT_APART * 3 * found.live_bytes)
    assert Footprint(1, 0, 0).window_bytes(4) == 0


def test_the_check_of_an_optimised_network_is_no_part_of_its_pass():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()).eval()
    plain, optimised = (measure_footprint(each, (1, 16, 16, 16)).live_bytes for each in (network, optimise(network)))
    assert optimised <= plain


@pytest.mark.parametrize("stated", [None, "3"])
def test_the_profiler_s_log_level_is_put_back(monkeypatch, stated):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    if stated:
        monkeypatch.setenv("KINETO_LOG_LEVEL", stated)
    inside = measure_allocation(lambda: os.environ["KINETO_LOG_LEVEL"])[0]
    assert (inside, os.environ.get("KINETO_LOG_LEVEL")) == (stated or "9", stated)
