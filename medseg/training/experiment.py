"""Several ways of training side by side: what is missing is trained and scored, then all is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.errors import InputError, MedsegError, UsageError
from medseg.evaluation.compare.comparison_files import write_comparison
from medseg.evaluation.compare.gather import Comparison, LeftOut, gather
from medseg.evaluation.compare.published import NOTHING, read_published
from medseg.evaluation.runs import SCORED_NAME, choose_part, is_scored, list_run_folders
from medseg.options import SPLIT_PARTS, TrainOptions
from medseg.training.engine import train
from medseg.training.planning import Experiment, PlannedRun, planned_runs
from medseg.training.scoring import score_part

__all__ = ["Experiment", "PlannedRun", "compare", "planned_runs"]

RunSeen = Callable[[PlannedRun, str, int], None]
"""Called with a run, what happens to it, and the number of runs in all."""


def compare(
    what: Experiment | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    part: str | None = None,
    data: str | Path | None = None,
    published: str | Path | None = None,
    on_run: RunSeen | None = None,
) -> Comparison:
    """Set ways of training side by side; the runs that an experiment lacks are trained and scored first.

    Each run of an experiment gets a folder below ``output``, named by what varies. What is
    finished there stays; what was interrupted goes on. A run that fails is reported and the
    others go on. The comparison is made from the run folders alone, so that comparing
    ``[output]`` gives it again.

    Args:
        what: An experiment, or folders of scored runs (or folders that hold some).
        output: Folder for comparison.csv, .json, .html and .png, and for an experiment's runs.
        part: The part of the split whose scores count, of run folders; an experiment names its own.
        data: The data set of run folders, for the picture of examples, where it is no longer where it was in training.
        published: A table to set beside, with the columns row, class, metric and value.
        on_run: Called with a run, `training`, `scoring`, `done`, `kept` or `failed`, and the number of runs.

    Raises:
        UsageError: The experiment makes no sense, or the rows cannot be compared.
        InputError: There is no run, or none with scores.
        DatasetError: The data set, a run or the published table cannot be used.
        OutputError: A file cannot be written.
    """
    table = NOTHING if published is None else read_published(published)
    if not isinstance(what, Experiment):
        comparison = gather(what, part, table)
        if output is not None:
            write_comparison(comparison, Path(output), data)
        return comparison
    if output is None:
        raise UsageError("SETTING_INVALID", "output", "an experiment needs a folder for its runs", "name one")
    failed = list(_train_missing(what, planned_runs(what, output), on_run))
    try:
        comparison = gather([output], what.scored_part, table)
    except InputError as error:
        raise failed[0][1] if failed else error from None
    write_comparison(comparison, Path(output), what.data)
    return _with_failures(comparison, failed)


def score_missing(places: Sequence[str | Path], data: str | Path, part: str | None = None) -> None:
    """Score the runs in some folders on a part of their splits, those that are not yet.

    Args:
        places: Run folders, or folders that hold some.
        data: The data set that they were trained on.
        part: By default `validation` of folds, else `test`.

    Raises:
        InputError: There is no run.
        DatasetError: RUN_UNREADABLE, a file of a run is damaged.
        MedsegError: As ``score_part``.
    """
    for folder in list_run_folders(places):
        own = part or choose_part(folder)
        if not is_scored(folder, own):
            score_part(folder, data, own)


def _train_missing(
    experiment: Experiment, runs: Sequence[PlannedRun], on_run: RunSeen | None
) -> Iterator[tuple[PlannedRun, MedsegError]]:
    """Train and score every run that is not; those that fail are given with their error."""

    def tell(run: PlannedRun, what: str) -> None:
        if on_run:
            on_run(run, what, len(runs))

    for run in runs:
        if run.state == "scored":
            tell(run, "kept")
            continue
        try:
            tell(run, "training")
            _train(experiment, run)
            tell(run, "scoring")
            score_part(run.folder, experiment.data, experiment.scored_part)
            tell(run, "done")
        except MedsegError as error:
            tell(run, "failed")
            yield run, error


def _train(experiment: Experiment, run: PlannedRun) -> None:
    for part in SPLIT_PARTS:  # Scores of a run whose training goes on are those of other weights.
        (run.folder / f"scores_{part}" / SCORED_NAME).unlink(missing_ok=True)
    options = TrainOptions(epochs=run.epochs, resume=True) if run.state == "begun" else run.options
    train(experiment.bundle, experiment.data, run.folder, options=options)


def _with_failures(comparison: Comparison, failed: Sequence[tuple[PlannedRun, MedsegError]]) -> Comparison:
    """The comparison with the reasons of this call in place of what the folders show of them."""
    rows = {run.row for run, _ in failed}
    reasons = [LeftOut(run.name, error.code, f"{error.case}: {error.problem}", error.remedy) for run, error in failed]
    return replace(comparison, failures=(*reasons, *(each for each in comparison.failures if each.case not in rows)))
