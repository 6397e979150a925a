import threading

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandGaussianNoised, RandSpatialCropSamplesd
from monai.utils import set_determinism

from medseg.errors import UsageError
from medseg.training.loading import AheadLoader

WAIT_SECONDS = 20


def cropped(count=6):
    """Cases of which two noisy patches each are cut at random."""
    cases = [{"image": torch.arange(64.0).reshape(1, 8, 8) + 100 * case} for case in range(count)]
    noisy = RandGaussianNoised("image", prob=0.5, std=0.1)
    return Dataset(cases, Compose([RandSpatialCropSamplesd("image", [4, 4], 2, random_size=False), noisy]))


def seen(build, epochs=2):
    """All batches of some epochs, seeded as a run seeds them, with a step between that draws numbers too."""
    set_determinism(3)
    loader, batches = build(cropped()), []
    for epoch in range(epochs):
        set_determinism(epoch)
        loader.dataset.transform.set_random_state(epoch)
        for batch in loader:
            batches.append(np.asarray(batch["image"]))
            batches.append(torch.nn.functional.dropout(torch.ones(8)).numpy())
    return batches


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_batches_and_numbers_drawn_between_are_those_of_the_plain_loader(ahead):
    plain = seen(lambda data: DataLoader(data, batch_size=2, shuffle=True))
    ours = seen(lambda data: AheadLoader(data, ahead=ahead, batch_size=2, shuffle=True))
    assert len(plain) == len(ours) == 12
    assert all(np.array_equal(one, other) for one, other in zip(plain, ours, strict=True))
    assert not np.array_equal(plain[0], plain[6])


class Recorded(torch.utils.data.Dataset):
    """Numbers; tells which were asked for, and fails at one."""

    def __init__(self, fails_at=None):
        self.asked = {index: threading.Event() for index in range(5)}
        self.fails_at = fails_at

    def __len__(self):
        return len(self.asked)

    def __getitem__(self, index):
        self.asked[index].set()
        if index == self.fails_at:
            raise ValueError(f"number {index}")
        return index


def test_the_next_batch_is_made_before_it_is_asked_for_and_no_more():
    data = Recorded()
    batches = iter(AheadLoader(data, ahead=2, batch_size=1))
    assert not data.asked[0].is_set()  # not before the epoch has been seeded
    next(batches)
    assert all(data.asked[index].wait(WAIT_SECONDS) for index in (1, 2))
    assert not data.asked[3].is_set()


def test_an_error_is_raised_where_its_batch_is_asked_for():
    batches = iter(AheadLoader(Recorded(fails_at=2), ahead=2, batch_size=1))
    assert [next(batches).item(), next(batches).item()] == [0, 1]
    with pytest.raises(ValueError, match="number 2"):
        next(batches)


def test_an_epoch_that_is_broken_off_leaves_no_thread():
    before = threading.active_count()
    batches = iter(AheadLoader(Recorded(), batch_size=1))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_of_nothing_there_are_no_batches():
    assert list(AheadLoader(Dataset([]), batch_size=2)) == []


def test_worker_processes_work_ahead_by_themselves():
    assert AheadLoader(Recorded(), ahead=2, num_workers=1, batch_size=1).ahead == 0


@pytest.mark.parametrize("ahead", [-1, 1.5])
def test_what_is_no_number_of_batches_is_refused(ahead):
    with pytest.raises(UsageError, match="SETTING_INVALID: ahead"):
        AheadLoader(Recorded(), ahead=ahead)
