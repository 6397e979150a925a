#!/usr/bin/env python3
"""Train for some steps, in this process; the last line tells what one step took, as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training_ways import WAYS, built
from watches import Growth, Stopwatch

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

_MODULES = ("torch", "monai.bundle", "monai.engines", "monai.handlers", "medseg.training.checkpoints")


class Watch:
    """Measures a trainer from its second epoch on: the first fills caches and warms up.

    Args:
        trainer: Not yet run.
        growth: Of the process, from before the trainer was built.
    """

    def __init__(self, trainer: SupervisedTrainer, growth: Growth) -> None:
        from ignite.engine import Events

        self._growth = growth
        self.losses: list[float] = []
        self.waited_seconds = 0.0
        self._asked = 0.0
        trainer.add_event_handler(Events.EPOCH_STARTED(once=2), self._begin)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._receive)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._note)

    def _begin(self) -> None:
        self._warm_mib = self._growth.mib()
        self._run_growth, self.stopwatch = Growth(), Stopwatch()
        self.losses, self.waited_seconds = [], 0.0

    def growths(self) -> dict[str, float]:
        """Growth of memory in all, and from the second epoch on."""
        whole = max(self._warm_mib, self._growth.mib())
        return {"growth_mib": whole, "run_growth_mib": self._run_growth.mib()}

    def _ask(self) -> None:
        self._asked = time.perf_counter()

    def _receive(self) -> None:
        self.waited_seconds += time.perf_counter() - self._asked

    def _note(self, trainer: SupervisedTrainer) -> None:
        output = trainer.state.output
        self.losses.append(float(output[0]["loss"] if isinstance(output, list) else output["loss"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Import, build, train; append losses and the share of time waited for data to a file; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("data", type=Path)
    parser.add_argument("told", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parsed = parser.parse_args(arguments)
    for module in _MODULES:
        importlib.import_module(module)
    sys.modules["torch"].set_num_threads(parsed.threads)
    growth, preparation = Growth(), Stopwatch()
    trainer = built(parsed.way, parsed.data, parsed.epochs)
    watch = Watch(trainer, growth)
    trainer.run()
    seconds, cpu_seconds = watch.stopwatch.lap()
    _tell(parsed.told, watch, seconds)
    steps, (whole, _) = len(watch.losses), preparation.lap()
    times = {"seconds": seconds / steps, "cpu_seconds": cpu_seconds / steps, "prepare_seconds": whole - seconds}
    print(json.dumps({**times, "label_seconds": 0.0, **watch.growths()}))
    return 0


def _tell(file: Path, watch: Watch, seconds: float) -> None:
    told = {"losses": watch.losses, "waited_percent": 100 * watch.waited_seconds / seconds}
    with file.open("a", encoding="utf8") as lines:
        lines.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    sys.exit(main())
