"""Which runs a comparison of several ways of training takes, and how far each of them is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from medseg.bundle.forms import Config
from medseg.bundle.load import find_bundle
from medseg.data.cases import open_dataset
from medseg.data.splits import Split, choose_split, folds
from medseg.errors import DatasetError, UsageError, check_known
from medseg.evaluation.compare.rows import make_slug
from medseg.evaluation.runs import find_runs_below, is_scored, read_run_split, read_table
from medseg.losses.named import LOSSES
from medseg.networks import MONAI_NETWORKS, NETWORKS
from medseg.options import SPLIT_PARTS, TrainOptions
from medseg.training.checks import RECORD_NAME, split_file_of
from medseg.training.choices import check_choices
from medseg.training.forms import check_overrides, laid_over, with_overrides

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
        row: Name of its row.
        fold: From 1; None without folds.
        folder: Of the run.
        options: Of its training.
        epochs: How many it is to have in all.
        state: How far it is.
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


def planned_runs(experiment: Experiment, output: str | Path) -> tuple[PlannedRun, ...]:
    """The runs of an experiment, row by row; nothing is written.

    Every row has the same split, or the same folds, drawn by the seed that the rows have in common.

    Raises:
        UsageError: A name or setting is not known, two rows are the same, or a run in ``output`` is
            another one than is asked for (ROW_DIFFERS, CASES_DIFFER).
        DatasetError: The data set or a run in ``output`` cannot be used, or the part to be scored is empty.
        BundleError: The bundle cannot be used.
    """
    check_known("NETWORK_UNKNOWN", experiment.networks, [*NETWORKS, *MONAI_NETWORKS])
    check_known("LOSS_UNKNOWN", experiment.losses, LOSSES)
    check_known("PART_UNKNOWN", [experiment.scored_part], SPLIT_PARTS)
    bundle = find_bundle(experiment.bundle)
    config = laid_over(bundle, experiment.options.form)["train"]
    _check_settings(experiment)
    rows = _rows(experiment)
    for options in rows.values():
        check_overrides(config, options.overrides)
        check_choices(with_overrides(config, options.overrides))
    splits = _splits(experiment, bundle, config)
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


def _rows(experiment: Experiment) -> dict[str, TrainOptions]:
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


def _splits(experiment: Experiment, bundle: Path, config: Config) -> dict[int | None, Split]:
    """The split of each fold, or the one split."""
    options, part = experiment.options, experiment.scored_part
    common = {**config, **options.overrides}
    cases = open_dataset(experiment.data).cases
    splits: dict[int | None, Split]
    if experiment.folds is not None:
        splits = dict(enumerate(folds(cases, experiment.folds, common["seed"]), start=1))
    else:
        split_file = split_file_of(bundle, options)
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
        DatasetError: RUN_UNREADABLE.
    """
    if not (run.folder / RECORD_NAME).is_file():
        return "missing"
    differing = list(_differences(run, bundle))
    path = run.folder / "configs" / "train.json"
    reached = read_table(path).get("epochs")
    if not isinstance(reached, int):
        raise DatasetError("RUN_UNREADABLE", path, f"epochs is {reached!r}", "restore the file, or train the run anew")
    if differing or reached > run.epochs:
        told = ", ".join(differing) or f"epochs ({reached} there, {run.epochs} asked for)"
        raise UsageError(
            "ROW_DIFFERS", run.folder, f"was trained with other settings: {told}", "give another output folder"
        )
    return "scored" if reached == run.epochs and is_scored(run.folder, part) else "begun"


def _differences(run: PlannedRun, bundle: str) -> Iterator[str]:
    """What a run on record has otherwise than it is asked for; more epochs are none."""
    record = read_table(run.folder / RECORD_NAME)
    overrides = record.get("overrides", {})
    if not isinstance(overrides, dict):
        problem = f"overrides is {overrides!r}"
        raise DatasetError("RUN_UNREADABLE", run.folder / RECORD_NAME, problem, "restore it, or train the run anew")
    wanted = {"bundle": bundle, "form": run.options.form, **json.loads(json.dumps(run.options.overrides))}
    found = {"bundle": record.get("bundle"), "form": record.get("form"), **overrides}
    for key in sorted((wanted.keys() | found.keys()) - {"epochs"}):
        if wanted.get(key) != found.get(key):
            yield f"{key} ({_said(found, key)} there, {_said(wanted, key)} asked for)"
    split = read_run_split(run.folder)
    if run.options.split and any(getattr(split, part) != getattr(run.options.split, part) for part in SPLIT_PARTS):
        yield "its split"


def _said(settings: Mapping[str, Any], key: str) -> str:
    """A setting's value; a key that nobody set is as the bundle has it."""
    if settings.get(key) is None:
        return "no form" if key == "form" else "the bundle's own"
    return repr(settings[key])
