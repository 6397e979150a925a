"""Many cases: one model, one mask each, and a record of what happened to every one.

While one case is run, the next is read and the one before is written; a case that fails does not end the others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medseg.bundle.trust import ALLOW_CODE
from medseg.data.cases import Case, narrow_to_series, open_images
from medseg.data.cases.case import are_modalities
from medseg.data.write import write
from medseg.errors import BundleError, ImageError, MedsegError, coded_cause, first_line
from medseg.files import hold
from medseg.findings import is_allowed
from medseg.inference.outputs import (
    check_dicom,
    check_labels,
    check_outside,
    choose_targets,
    describe_run,
    find_source,
    path_below,
    path_beside,
    read_earlier_masks,
    write_dicom_seg,
    write_record,
)
from medseg.inference.prediction import Prediction, is_exported, measure_volumes_ml
from medseg.inference.predictor import Predictor
from medseg.options import DICOM_SEG, PredictOptions

if TYPE_CHECKING:
    from medseg.bundle.load import Bundle
    from medseg.data.dicom.source import SourceSeries

UNFORESEEN = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)
"""What readers, MONAI and runtimes are known to raise; it fails one case, and the others go on."""


@dataclass(frozen=True)
class CaseRecord:
    """What happened to one case.

    Args:
        case: Its id.
        images: The files read.
        mask: The file written, relative to the output folder; None where it failed.
        seconds: How long it took, from reading to the verified mask.
        volumes_ml: Each structure's volume.
        notes: What is odd about the image without being wrong, with codes.
        run_by: Runtime, windows at a time and threads, and what chose them; empty where it is not known.
        error: Code, case, problem and remedy where it failed.
    """

    case: str
    images: tuple[str, ...]
    mask: str | None = None
    seconds: float = 0.0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    notes: str = ""
    run_by: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class Predictions:
    """The outcome of a run over many cases.

    Args:
        output: The folder of masks.
        records: One per case, in order.
        seconds: How long the whole run took, loading the model included.
    """

    output: Path
    records: tuple[CaseRecord, ...]
    seconds: float

    @property
    def failed(self) -> tuple[CaseRecord, ...]:
        """The cases without a mask."""
        return tuple(record for record in self.records if record.error)

    @property
    def exit_code(self) -> int:
        """0 where every case has its mask, 1 otherwise."""
        return 1 if self.failed else 0


def predict(
    bundle: str | Path,
    images: str | Path | Sequence[Case],
    output: str | Path,
    *,
    options: PredictOptions | None = None,
    allow: Collection[str] = (),
    on_case: Callable[[CaseRecord, int], None] | None = None,
    on_window: Callable[[str, int], None] | None = None,
) -> Predictions:
    """Segment every case found, with one mask each on the image's own grid.

    A case that fails is recorded and the others go on. `predictions.json` beside the
    masks says what was run on what, and how each case went. Masks of earlier runs into
    the same folder that are not made again stay, and so do their records.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        images: An image file, a folder (any mix of formats, nested), a DICOM case, or a list (.txt, .csv);
            or cases, with their images in the order of the bundle's channels.
        output: Folder for the masks; made where missing.
        options: Device, precision, mirroring, overlap, probabilities, DICOM series, memory.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE.
        on_case: Called after each case with its record and the number of cases in all.
        on_window: Called with a case's id and the number of its windows done so far.

    Raises:
        InputError: There is no image.
        BundleError: The bundle is refused.
        OutputError: The output folder cannot be written, lies where it would overwrite an image, or
            holds masks of other labels that would stay.
        LockedError: Another run is writing to the output folder.
    """
    started = time.perf_counter()
    options = options or PredictOptions()
    predictor = open_predictor(bundle, options, on_window, allow)
    cases = cases_for(predictor.model.channels, images, options.series)
    folder = Path(output)
    if isinstance(images, str | Path):
        check_outside(folder, Path(images))
    if options.mask_format == DICOM_SEG:
        check_dicom(cases)
    targets = choose_targets(cases, folder, options.mask_format)
    head, records = describe_run(predictor.model, options), list[CaseRecord]()
    with hold(folder):
        earlier = read_earlier_masks(folder)
        check_labels(earlier, folder, {path_below(target, folder) for target in targets.values()}, head["labels"])

        def done(record: CaseRecord) -> None:
            records.append(record)
            earlier.pop(path_below(targets[record.case], folder), None)
            write_record(folder, head, [asdict(each) for each in records], list(earlier.values()))
            if on_case:
                on_case(record, len(cases))

        steps = _Steps(predictor, targets, folder)
        in_steps = overlapped if options.max_ram is None else in_turn
        in_steps(cases, steps.read, steps.run, steps.write, done)
    return Predictions(folder, tuple(records), time.perf_counter() - started)


def open_predictor(
    bundle: str | Path | Bundle,
    options: PredictOptions | None = None,
    on_window: Callable[[str, int], None] | None = None,
    allow: Collection[str] = (),
) -> Predictor:
    """A bundle's network, loaded once, to be run over one case after the other.

    PyTorch and MONAI are imported for it unless it is an exported one.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships; an opened one; or an exported bundle's folder.
        options: How to run it.
        on_window: Called with a case's id and the number of windows run so far.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE, in the bundle and in its locator.

    Raises:
        UsageError: The bundle does not offer what the options ask for.
        BundleError: It, or its locator, is refused.
    """
    options = options or PredictOptions()
    if isinstance(bundle, str | Path) and is_exported(bundle):
        from medseg.inference.runtimes.exported_network import ExportedRuntime, check_options
        from medseg.inference.steps.description import read_description
        from medseg.inference.steps.numpy_steps import NumpySteps

        model = read_description(Path(bundle))
        check_options(options, model)
        _check_trusted(model.to, Path(bundle), allow)
        return Predictor(model, NumpySteps(model), ExportedRuntime(Path(bundle), model, options), options, on_window)
    from medseg.bundle.load import open_bundle
    from medseg.inference.runtimes.bundle_runtime import BundleRuntime
    from medseg.inference.steps.monai_steps import MonaiSteps

    opened = open_bundle(bundle, allow) if isinstance(bundle, str | Path) else bundle
    locator = None
    if opened.locator is not None or options.locator is not None:
        from medseg.inference.locator import open_locator

        locator = open_locator(opened, options, allow)
    return Predictor(opened, MonaiSteps(opened, locator), BundleRuntime(opened, options), options, on_window)


def _check_trusted(to: str, folder: Path, allow: Collection[str]) -> None:
    """Refuse to run a program that nobody said to trust."""
    if to == "torchscript" and not is_allowed(ALLOW_CODE, allow):
        remedy = f"if you trust who exported it, repeat with --allow {ALLOW_CODE}; or export to onnx or openvino"
        raise BundleError("BUNDLE_RUNS_CODE", folder, "a TorchScript file is a program, which would run", remedy)


@dataclass
class _Attempt:
    """A case and what the steps have made of it so far.

    Args:
        case: The case.
        source: The series that a DICOM SEG will refer to.
        ready: The case as the network takes it.
        prediction: Its mask.
        seconds: Time spent on it so far.
        error: How a step failed, or None; no step follows then.
    """

    case: Case
    source: SourceSeries | None = None
    ready: Any = None
    prediction: Prediction | None = None
    seconds: float = 0.0
    error: MedsegError | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Open while a step is done: its time is added, and an error that fails this case alone is kept."""
        started = time.perf_counter()
        try:
            yield
        except MedsegError as known:
            self.error = known
        except UNFORESEEN as unforeseen:
            self.error = case_failed(unforeseen, self.case)
        self.seconds += time.perf_counter() - started


class _Steps:
    """The three steps of a case; each passes a failure on."""

    def __init__(self, predictor: Predictor, targets: Mapping[str, Path], folder: Path) -> None:
        self.predictor, self.targets, self.folder = predictor, targets, folder
        self.writes_seg = predictor.options.mask_format == DICOM_SEG

    def read(self, case: Case) -> _Attempt:
        """The image as the network takes it, and the series that a DICOM SEG will refer to."""
        attempt = _Attempt(case)
        with attempt.step():
            # A series that no DICOM SEG can refer to is found before the work.
            attempt.source = find_source(case) if self.writes_seg else None
            attempt.ready = self.predictor.prepare(case)
        return attempt

    def run(self, case: Case, attempt: _Attempt) -> _Attempt:
        """The mask."""
        if not attempt.error:
            with attempt.step():
                attempt.prediction = self.predictor.segment(case, attempt.ready)
        attempt.ready = None  # Its memory is wanted for the next case.
        return attempt

    def write(self, case: Case, attempt: _Attempt) -> CaseRecord:
        """The mask's file, and how the case went."""
        target, removal = self.targets[case.id], _Attempt(case)
        with removal.step():
            _remove_stale(target)
        attempt.error = removal.error or attempt.error
        if attempt.prediction and not attempt.error:
            with attempt.step():
                attempt.prediction = self._write_mask(target, attempt.source, attempt.prediction)
        made = attempt.prediction
        if attempt.error or made is None:
            return CaseRecord(case.id, case.images, error=attempt.error.to_record() if attempt.error else None)
        return CaseRecord(
            case.id,
            case.images,
            mask=path_below(target, self.folder),
            seconds=round(attempt.seconds, 3),
            volumes_ml=dict(measure_volumes_ml(made, self.predictor.model.labels)),
            notes=made.notes,
            run_by=made.run_by,
        )

    def _write_mask(self, target: Path, source: SourceSeries | None, prediction: Prediction) -> Prediction:
        """Write a mask in the format asked for; returns what was written."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if prediction.probabilities is not None:
            write(prediction.probabilities, prediction.affine, path_beside(target, "probabilities"), has_channels=True)
        if source is None:
            write(prediction.labels, prediction.affine, target)
            return prediction
        options = self.predictor.options
        notes = write_dicom_seg(prediction, source, target, self.predictor.model, options.seg_type)
        return replace(prediction, notes="; ".join(text for text in (prediction.notes, notes) if text))


def _remove_stale(target: Path) -> None:
    """What an earlier run made must not stand for a case that now fails, nor beside a mask of other weights."""
    for stale in (target, path_beside(target, "probabilities")):
        stale.unlink(missing_ok=True)


def case_failed(error: Exception, case: Case) -> MedsegError:
    """An error that no code was meant for, with the case's name; its coded cause where it has one."""
    unknown = ImageError("CASE_FAILED", case.id, first_line(error), "see whether the bundle fits the image")
    return coded_cause(error) or unknown


Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")
Written = TypeVar("Written")


def overlapped(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    run: Callable[[Item, Read], Result],
    write: Callable[[Item, Result], Written],
    done: Callable[[Written], None],
) -> None:
    """Take items through three steps; while one is run, the next is read and the one before is written.

    At most one item waits read and one run. ``run`` and ``done`` are called in this thread, in the order of the
    items. Where a step raises, or the run is interrupted, what is being written is finished and told to ``done`` first.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        reading = deque(reader.submit(read, item) for item in items[:1])
        writing: Future[Written] | None = None
        try:
            for number, item in enumerate(items):
                ready = reading.popleft().result()
                reading.extend(reader.submit(read, following) for following in items[number + 1 : number + 2])
                result = run(item, ready)
                del ready
                if writing:
                    finished = writing.result()
                    writing = None
                    done(finished)
                writing = writer.submit(write, item, result)
                del result
        finally:
            if writing:
                done(writing.result())


def in_turn(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    run: Callable[[Item, Read], Result],
    write: Callable[[Item, Result], Written],
    done: Callable[[Written], None],
) -> None:
    """Take items through the three steps of ``overlapped``, one after the other: what the smallest memory takes."""
    for item in items:
        done(write(item, run(item, read(item))))


def cases_for(channels: Sequence[str], images: str | Path | Sequence[Case], series: str | None) -> tuple[Case, ...]:
    """The cases in ``images`` for a model that takes these channels.

    Args:
        channels: Names of the model's channels.
        images: As ``medseg.data.cases.open_images`` takes them, or the cases themselves.
        series: As ``medseg.data.cases.narrow_to_series`` takes it.

    Raises:
        InputError: There is no image.
    """
    if isinstance(images, str | Path):
        images = open_images(images, tuple(channels) if are_modalities(channels) else len(channels))
    return narrow_to_series(images, series)
