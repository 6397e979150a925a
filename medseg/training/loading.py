"""Batches made while the network is trained on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from monai.data import DataLoader

from medseg.errors import UsageError

_END = object()


class AheadLoader(DataLoader):
    """MONAI's loader, which makes the next batches in a thread while this one is trained on.

    One thread makes all batches, one after the other, from numbers drawn in that order: they are those of the plain
    loader, where transforms have random states of their own, as MONAI's do. An error there is raised where its batch
    is asked for; with MONAI's `ThreadDataLoader` the epoch would end early instead, in silence. Worker processes work
    ahead by themselves, so where there are any, no thread is used.

    Args:
        dataset: What MONAI's loader takes.
        ahead: How many batches are made in advance; 0 makes each when it is asked for.
        num_workers: Number of worker processes, as MONAI's loader takes it.
        options: All else that MONAI's loader takes.

    Raises:
        UsageError: SETTING_INVALID.
    """

    def __init__(self, dataset: Any, ahead: int = 1, num_workers: int = 0, **options: Any) -> None:
        if not isinstance(ahead, int) or ahead < 0:
            raise UsageError("SETTING_INVALID", "ahead", f"{ahead!r} is no number of batches", "give 0, 1 or more")
        super().__init__(dataset, num_workers, **options)
        self.ahead = 0 if num_workers else ahead

    def __iter__(self) -> Any:
        """The batches of one epoch."""
        return self._make_ahead() if self.ahead else super().__iter__()

    def _make_ahead(self) -> Iterator[Any]:
        batches = super().__iter__()
        pool = ThreadPoolExecutor(1, thread_name_prefix="medseg-loader")
        try:
            coming = deque(pool.submit(next, batches, _END) for _ in range(self.ahead))
            # The sampler seeds itself from PyTorch's numbers at the first batch, before the network draws any of them.
            while (batch := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, batches, _END))
                yield batch
                del batch
        finally:
            pool.shutdown(cancel_futures=True)
