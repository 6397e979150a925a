"""Several ways of training side by side: what is missing is trained and scored, then all is compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from medseg.bundle.config import Config, find_bundle, read_form
from medseg.data.cases import open_dataset
from medseg.data.splits import Split, choose_split, folds
from medseg.errors import DatasetError, InputError, MedsegError, UsageError, check_known
from medseg.evaluation.compare.comparison_files import write_comparison
from medseg.evaluation.compare.gather import Comparison, gather
from medseg.evaluation.compare.published import NOTHING, read_published
from medseg.evaluation.compare.rows import make_slug
from medseg.evaluation.runs import (
    RUN_RECORD,
    SCORED_NAME,
    choose_part,
    find_runs_below,
    is_scored,
    list_run_folders,
    read_run_split,
    read_table,
)
from medseg.findings import Finding
from medseg.options import SPLIT_PARTS, TrainOptions
from medseg.training.data_check import find_split_file
from medseg.training.scoring import score_part
from medseg.training.settings_check import check_choices, check_names, check_overrides, with_overrides
from medseg.training.train import train

__all__ = ["Experiment", "PlannedRun", "compare", "plan_runs"]

State = Literal["missing", "begun", "scored"]

_OF_THE_SPLIT = ("split_file", "fractions")
"""Settings that all rows have in common, for they are compared on the same cases."""


@dataclass(frozen=True)
class Experiment:
    """Ways of training a bundle, each a row of a comparison: every choice with every other.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        data: A data set.
        networks: Names of networks; none leaves the bundle's own.
        losses: Names of losses; none leaves the bundle's own.
        vary: Values of other keys of `train.json`.
        folds: Number of folds; None trains each row once, on the bundle's split.
        part: What is scored; None is `validation` with folds, else `test`.
        options: What all rows have in common: epochs, settings, form, new split.
    """

    bundle: str | Path
    data: str | Path
    networks: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    vary: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    folds: int | None = None
    part: str | None = None
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def scored_part(self) -> str:
        """The part of the split that is scored."""
        return self.part or ("validation" if self.folds else "test")


@dataclass(frozen=True)
class PlannedRun:
    """One training of an experiment.

    Args:
        row: Name of the row that it belongs to.
        fold: Number of the fold, from 1; None without folds.
        folder: The run's folder.
        options: Options of its training.
        epochs: Number of epochs that it is to have in all.
        state: How far the run is.
    """

    row: str
    fold: int | None
    folder: Path
    options: TrainOptions
    epochs: int
    state: State

    @property
    def name(self) -> str:
        """Row and fold, as the folders have them."""
        return f"{self.row}/fold{self.fold}" if self.fold else self.row


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
    failed = list(_train_missing(what, plan_runs(what, output), on_run))
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
        part: The part to score; by default `validation` of folds, else `test`.

    Raises:
        InputError: There is no run.
        DatasetError: RECORD_UNREADABLE, a file of a run is damaged.
        MedsegError: What ``score_part`` raises.
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
    reasons = [Finding(run.name, error.code, f"{error.case}: {error.problem}", error.remedy) for run, error in failed]
    return replace(comparison, failures=(*reasons, *(each for each in comparison.failures if each.case not in rows)))


def plan_runs(experiment: Experiment, output: str | Path) -> tuple[PlannedRun, ...]:
    """The runs of an experiment, row by row; nothing is written.

    Every row has the same split, or the same folds, drawn by the seed that the rows have in common.

    Raises:
        UsageError: A name or setting is not known, two rows are the same, or a run in ``output`` is
            another one than is asked for (ROW_DIFFERS, CASES_DIFFER).
        DatasetError: The data set or a run in ``output`` cannot be used, or the part to be scored is empty.
        BundleError: The bundle cannot be used.
    """
    check_names(experiment.networks, experiment.losses)
    check_known("NAME_UNKNOWN", [experiment.scored_part], SPLIT_PARTS)
    bundle = find_bundle(experiment.bundle)
    config = read_form(bundle, experiment.options.form)["train"]
    _check_settings(experiment)
    rows = _name_rows(experiment)
    for options in rows.values():
        check_overrides(config, options.overrides)
        check_choices(with_overrides(config, options.overrides))
    splits = _choose_splits(experiment, bundle, config)
    _check_alike(Path(output), splits, experiment.scored_part)
    planned = []
    for (row, options), (fold, split) in product(rows.items(), splits.items()):
        folder = Path(output) / row / f"fold{fold}" if fold else Path(output) / row
        # The run's own split.json is what its training and scoring read; a split_file would take them elsewhere.
        settings = {key: value for key, value in options.settings.items() if key != "split_file"}
        own = replace(options, split=split, new_split=False, settings=settings)
        run = PlannedRun(row, fold, folder, own, own.overrides.get("epochs") or config["epochs"], "missing")
        planned.append(replace(run, state=_state(run, bundle.name, experiment.scored_part)))
    return tuple(planned)


def _check_settings(experiment: Experiment) -> None:
    """Refuse what would be without effect: a key that is given twice, and what would give rows other cases."""
    options = experiment.options
    named = [key for key, names in (("network_name", experiment.networks), ("loss_name", experiment.losses)) if names]
    keys = [*named, *experiment.vary, *replace(options, settings={}).overrides, *options.settings]
    for key, times in Counter(keys).items():
        if times > 1:
            raise UsageError("SETTING_INVALID", key, "is given twice", "give it once, with one option")
    for key in (key for key in _OF_THE_SPLIT if key in experiment.vary):
        raise UsageError("SETTING_INVALID", key, "cannot vary: rows are compared on the same cases", "set it for all")
    if experiment.folds is not None and "split_file" in options.settings:
        raise UsageError("SETTING_INVALID", "split_file", "folds are drawn", "leave it out, or the folds")


def _name_rows(experiment: Experiment) -> dict[str, TrainOptions]:
    """The options of each row by its name, which is made of what was chosen."""
    choices: list[list[tuple[str, str, Any]]] = []
    if experiment.networks:
        choices.append([(name, "network_name", name) for name in experiment.networks])
    if experiment.losses:
        choices.append([(name, "loss_name", name) for name in experiment.losses])
    choices += [[(make_slug(key, value), key, value) for value in values] for key, values in experiment.vary.items()]
    rows: dict[str, TrainOptions] = {}
    for chosen in product(*choices):
        name = "_".join(part for part, _, _ in chosen) or "base"
        if name in rows:
            raise UsageError("SETTING_INVALID", name, "two rows have this name", "name each choice once")
        settings = {**experiment.options.settings, **{key: value for _, key, value in chosen}}
        rows[name] = replace(experiment.options, settings=settings)
    return rows


def _choose_splits(experiment: Experiment, bundle: Path, config: Config) -> dict[int | None, Split]:
    """The split of each fold, or the one split."""
    options, part = experiment.options, experiment.scored_part
    common = {**config, **options.overrides}
    cases = open_dataset(experiment.data).cases
    splits: dict[int | None, Split]
    if experiment.folds is not None:
        splits = dict(enumerate(folds(cases, experiment.folds, common["seed"]), start=1))
    else:
        split_file = find_split_file(bundle, options)
        splits = {None: options.split or choose_split(cases, split_file, common["fractions"], common["seed"])}
    for split in splits.values():
        if not getattr(split, part):
            problem = f"no case is left for {part} ({split.how})"
            raise DatasetError("PART_EMPTY", experiment.data, problem, "score another part, or change the fractions")
    return splits


def _check_alike(output: Path, splits: Mapping[int | None, Split], part: str) -> None:
    """Refuse an output folder with runs that were scored on other cases: no table could hold them all."""
    wanted = {getattr(split, part) for split in splits.values()}
    for folder in find_runs_below(output):
        if getattr(read_run_split(folder), part) not in wanted:
            raise UsageError(
                "CASES_DIFFER",
                folder,
                f"its {part} part has other cases than the rows that are asked for",
                "give another output folder, or as many folds as before",
            )


def _state(run: PlannedRun, bundle: str, part: str) -> State:
    """How far a run is.

    Raises:
        UsageError: ROW_DIFFERS, the folder holds another run.
        DatasetError: RECORD_UNREADABLE.
    """
    if not (run.folder / RUN_RECORD).is_file():
        return "missing"
    differing = list(_find_differences(run, bundle))
    path = run.folder / "configs" / "train.json"
    reached = read_table(path).get("epochs")
    if not isinstance(reached, int):
        raise DatasetError(
            "RECORD_UNREADABLE", path, f"epochs is {reached!r}", "restore the file, or train the run anew"
        )
    if differing or reached > run.epochs:
        told = ", ".join(differing) or f"epochs ({reached} there, {run.epochs} asked for)"
        raise UsageError("ROW_DIFFERS", run.folder, f"was trained with other settings: {told}")
    return "scored" if reached == run.epochs and is_scored(run.folder, part) else "begun"


def _find_differences(run: PlannedRun, bundle: str) -> Iterator[str]:
    """What a run on record has otherwise than it is asked for; more epochs are none."""
    record = read_table(run.folder / RUN_RECORD)
    overrides = record.get("overrides", {})
    if not isinstance(overrides, dict):
        problem = f"overrides is {overrides!r}"
        raise DatasetError("RECORD_UNREADABLE", run.folder / RUN_RECORD, problem, "restore it, or train the run anew")
    wanted = {"bundle": bundle, "form": run.options.form, **json.loads(json.dumps(run.options.overrides))}
    found = {"bundle": record.get("bundle"), "form": record.get("form"), **overrides}
    for key in sorted((wanted.keys() | found.keys()) - {"epochs"}):
        if wanted.get(key) != found.get(key):
            yield f"{key} ({_quote(found, key)} there, {_quote(wanted, key)} asked for)"
    split = read_run_split(run.folder)
    if run.options.split and any(getattr(split, part) != getattr(run.options.split, part) for part in SPLIT_PARTS):
        yield "its split"


def _quote(settings: Mapping[str, Any], key: str) -> str:
    """A setting's value; a key that nobody set is as the bundle has it."""
    if settings.get(key) is None:
        return "no form" if key == "form" else "the bundle's own"
    return repr(settings[key])
