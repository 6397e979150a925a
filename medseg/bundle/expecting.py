"""What a bundle expects of a data set, and the check of a data set against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medseg.bundle.config import Config, find_bundle, read_config, read_forms, resolve, value_at
from medseg.data.cases.case import Dataset, select_channels
from medseg.data.checking.doctor import Examined, examine
from medseg.data.checking.findings import WHOLE, Finding, of_error
from medseg.data.checking.fixing import write_fixed
from medseg.data.checking.hushing import pydicom_hushed
from medseg.data.checking.pairs import OnCase
from medseg.data.checking.reading import Expected
from medseg.data.checking.report import CheckReport
from medseg.data.formats.payload import memory_budget
from medseg.data.labels import mask_reading
from medseg.data.splits import read_split
from medseg.errors import DatasetError
from medseg.options import CheckOptions

SLICE_INFERER = "SliceInferer"
"""Cuts the slices of a 2D network from volumes."""

UNFIT = ("IMAGE_NOT_2D", "IMAGE_NOT_3D", "CHANNEL_COUNT", "CHANNELS_DIFFER", "LABEL_UNEXPECTED")
"""What data of another bundle show."""

OF_MASKS = ("LABEL_UNEXPECTED",)
FEWEST_ALIKE = 2

MODALITIES = ("CT",)
"""Modalities whose values have a unit that can be checked."""


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
    configs = _configs(bundle) if bundle is not None else None
    parts = read_split(split) if split is not None else None
    with memory_budget(max_ram), pydicom_hushed():
        examined = examine(data, lambda dataset: expectations(dataset, configs), parts, on_case, series)
        report = all_alike_told_once(examined) if configs else examined.report
        if fix is None:
            return report
        copy = write_fixed(examined, Path(fix).absolute(), on_copied, straightens=straighten)
    return replace(report, copy=copy)


def all_alike_told_once(examined: Examined) -> CheckReport:
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
            own, most = [_of_all(own[0], count)], max(most, count)
        findings += own
    return replace(report, findings=tuple(findings), all_alike=most)


def _of_all(first: Finding, count: int) -> Finding:
    such_as = f", such as {first.case}" if first.case else ""
    remedy = f"is it another bundle's data? If not: {first.remedy}"
    return replace(first, case=WHOLE, what=f"all {count} cases fail alike{such_as}: {first.what}", remedy=remedy)


def expectations(dataset: Dataset, configs: Mapping[str, Config] | None) -> tuple[Dataset, Expected, list[Finding]]:
    """The data set as a bundle takes it, what it should hold, and what does not fit.

    Args:
        dataset: As it was opened.
        configs: The bundle's ``train`` and ``metadata``; None where the data set's own description is all there is.
    """
    names = tuple(dataset.labels.names.items())
    modality = next((name for name in dataset.channels if name.upper() in MODALITIES), "")
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
        findings.append(of_error(error, WHOLE))
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
        Expected(masks.values, count, own or names, modality, masks.names, image_axes(train, metadata)),
        findings,
    )


def image_axes(train: Config, metadata: Config) -> int | None:
    """How many axes in space an image has that a bundle takes, as prediction has it; None where nothing says.

    Args:
        train: The bundle's ``train.json``.
        metadata: Its ``metadata.json``.
    """
    inferer = resolve(train, value_at(train, "validate::inferer"))
    target = str(inferer.get("_target_", "")) if isinstance(inferer, Mapping) else ""
    if target.rpartition(".")[2] == SLICE_INFERER:
        return 3
    shape = metadata["network_data_format"]["inputs"]["image"].get("spatial_shape")
    return len(shape) if isinstance(shape, list) else None


def _configs(bundle: str | Path) -> dict[str, Config]:
    root = find_bundle(bundle)
    base = read_forms(root)[0][0].configs
    # A configuration that is not there, or cannot be read, is read once more for its error.
    return {kind: base.get(kind) or read_config(root / "configs" / f"{kind}.json") for kind in ("train", "metadata")}
