"""List all that is wrong or odd with a data set, by itself or against what a bundle expects: the verb `check`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

from medseg.bundle.config import Config, find_bundle, find_config, merge_files, resolve, value_at
from medseg.checking.check_report import CheckReport
from medseg.checking.examine import Examined, examine
from medseg.checking.fix import write_fixed
from medseg.checking.read_case import Expected
from medseg.checking.usable_pairs import OnCase
from medseg.data.cases.case import Dataset, select_channels
from medseg.data.formats.payload import memory_budget
from medseg.data.labels import mask_reading
from medseg.data.splits import read_split
from medseg.errors import DatasetError, as_finding
from medseg.findings import WHOLE, Finding
from medseg.options import CheckOptions

SLICE_INFERER = "SliceInferer"
"""Cuts the slices of a 2D network from volumes."""

UNFIT = ("IMAGE_NOT_2D", "IMAGE_NOT_3D", "CHANNEL_COUNT", "CHANNELS_DIFFER", "LABEL_UNEXPECTED")
"""What data of another bundle show."""

OF_MASKS = ("LABEL_UNEXPECTED",)

FEWEST_ALIKE = 2

WITH_UNIT = ("CT",)
"""Modalities whose values have a unit that can be checked."""

PYDICOM = r"pydicom(\.|$)"


def check(
    data: str | Path,
    *,
    bundle: str | Path | None = None,
    split: str | Path | None = None,
    series: str | None = None,
    max_ram: int | None = None,
    fix: str | Path | None = None,
    straighten: bool = False,
    on_case: OnCase | None = None,
    on_copied: OnCase | None = None,
) -> CheckReport:
    """Look at a data set and list all that is wrong or odd, instead of stopping at the first.

    Args:
        data: A folder in any layout that medseg knows, a ``dataset.json``, a CSV, a folder of
            images alone, or of DICOM series.
        bundle: A bundle whose labels and channels the data set should have.
        split: A ``split.json`` whose parts should not share patients or images.
        series: Which series of DICOM folders: its SeriesNumber, or the end of its SeriesInstanceUID; ``:N`` behind
            it, or alone, names stack N of several in it.
        max_ram: Bytes that one image may take; an image that needs more is a finding. None leaves what is free.
        fix: A folder, empty or not there, for a copy with all corrected that is certain.
        straighten: Whether volumes on sheared grids are resampled onto perpendicular axes in the copy,
            their masks with them.
        on_case: Called after each case with its id and the number of cases in all.
        on_copied: Called likewise while the copy is written.

    Returns:
        Every finding, and the data set in a few numbers.

    Raises:
        UsageError: ``series`` or ``max_ram`` cannot be meant, or ``straighten`` without ``fix``.
        InputError: There is no case, or the split cannot be read.
        BundleError: There is no such bundle.
        OutputError: The copy cannot be written, or its folder is not empty.
    """
    CheckOptions(bundle, split, series, max_ram, fix, straighten)  # Refuses what cannot be meant.
    configs = _read_configs(bundle) if bundle is not None else None
    parts = read_split(split) if split is not None else None
    with memory_budget(max_ram), quiet_pydicom():
        examined = examine(data, lambda dataset: expect(dataset, configs), parts, on_case, series)
        report = merge_alike(examined) if configs else examined.report
        if fix is None:
            return report
        copy = write_fixed(examined, Path(fix).absolute(), on_copied, straightens=straighten)
    return replace(report, copy=copy)


def _read_configs(bundle: str | Path) -> dict[str, Config]:
    root = find_bundle(bundle)
    return {kind: merge_files(find_config(root, kind)) for kind in ("train", "metadata")}


def merge_alike(examined: Examined) -> CheckReport:
    """The report, with one finding in place of those by which every case fails to be data for the bundle.

    Cases with a file that cannot be read do not count, and a single case shows nothing.
    """
    report = examined.report
    readable = [case for case in examined.opened.dataset.cases if case.id not in examined.unreadable]
    findings, most = [finding for finding in report.findings if finding.code not in UNFIT], 0
    for code in UNFIT:
        own = [finding for finding in report.findings if finding.code == code]
        concerned = {finding.case for finding in own}
        all_of = {case.id for case in readable if case.label_files or code not in OF_MASKS}
        if len(all_of) >= FEWEST_ALIKE and (concerned == {WHOLE} or concerned >= all_of):
            count = max(len(all_of), len(concerned))
            own, most = [_tell_of_all(own[0], count)], max(most, count)
        findings += own
    return replace(report, findings=tuple(findings), all_alike=most)


def _tell_of_all(first: Finding, count: int) -> Finding:
    such_as = f", such as {first.case}" if first.case else ""
    remedy = f"is it another bundle's data? If not: {first.remedy}"
    return replace(first, case=WHOLE, problem=f"all {count} cases fail alike{such_as}: {first.problem}", remedy=remedy)


def expect(dataset: Dataset, configs: Mapping[str, Config] | None) -> tuple[Dataset, Expected, list[Finding]]:
    """The data set as a bundle takes it, what it should hold, and what does not fit.

    Args:
        dataset: The data set as it was opened.
        configs: The bundle's ``train`` and ``metadata``; None where the data set's own description is all there is.
    """
    names = tuple(dataset.labels.names.items())
    modality = next((name for name in dataset.channels if name.upper() in WITH_UNIT), "")
    if configs is None:
        values = frozenset(dataset.labels.names) or None
        segments = {value: (name,) for value, name in names if value > 0}
        return dataset, Expected(values, len(dataset.channels) or None, names, modality, segments), []
    train, metadata = configs["train"], configs["metadata"]
    image = metadata["network_data_format"]["inputs"]["image"]
    wanted = train.get("channel_names") or image["num_channels"]
    findings: list[Finding] = []
    try:
        dataset = replace(dataset, cases=select_channels(dataset.cases, dataset.channels, wanted, dataset.root))
    except DatasetError as error:
        findings.append(as_finding(error, WHOLE))
    count = wanted if isinstance(wanted, int) else len(wanted)
    masks = mask_reading(value_at(train, "validate::preprocessing::transforms"))
    named = {int(value): str(name) for value, name in metadata.get("labels", {}).items()}
    own = tuple(
        (value, named[masks.renamed.get(value, value)])
        for value in masks.values or ()
        if (masks.renamed.get(value, value) in named)
    )
    modality = modality or str(image.get("modality", ""))
    return (
        dataset,
        Expected(masks.values, count, own or names, modality, masks.names, count_image_axes(train, metadata)),
        findings,
    )


def count_image_axes(train: Config, metadata: Config) -> int | None:
    """How many axes in space an image has that a bundle takes, as prediction has it; None where nothing says.

    Args:
        train: The bundle's ``train.json``.
        metadata: The bundle's ``metadata.json``.
    """
    inferer = resolve(train, value_at(train, "validate::inferer"))
    target = str(inferer.get("_target_", "")) if isinstance(inferer, Mapping) else ""
    if target.rpartition(".")[2] == SLICE_INFERER:
        return 3
    shape = metadata["network_data_format"]["inputs"]["image"].get("spatial_shape")
    return len(shape) if isinstance(shape, list) else None


class _Hush:
    """One filter of the process for all checks under way: Python's filters belong to no thread.

    The first check sets it, the last one that ends restores what was there before.
    """

    def __init__(self) -> None:
        self._lock, self._checks, self._filter = Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._checks:
                self._filter.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", category=UserWarning, module=PYDICOM)
            self._checks += 1

    def end(self) -> None:
        with self._lock:
            self._checks -= 1
            if not self._checks:
                self._filter.close()


_HUSH = _Hush()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Within this block no warning of pydicom is shown, in any thread of the process; medseg has its own codes."""
    _HUSH.begin()
    try:
        yield
    finally:
        _HUSH.end()
