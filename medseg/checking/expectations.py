"""What a bundle expects of a data set, and whether all of a data set is other data than it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medseg.bundle.forms import Config, at, resolved
from medseg.checking.check_report import CheckReport
from medseg.checking.examine import Examined
from medseg.checking.read_case import Expected
from medseg.data.case import Dataset
from medseg.data.channels import with_channels
from medseg.data.mask_steps import mask_reading
from medseg.errors import DatasetError, as_finding
from medseg.findings import WHOLE, Finding

SLICE_INFERER = "SliceInferer"
"""Cuts the slices of a 2D network from volumes."""

UNFIT = ("IMAGE_NOT_2D", "IMAGE_NOT_3D", "CHANNEL_COUNT", "CHANNELS_DIFFER", "LABEL_UNEXPECTED")
"""What data of another bundle show."""

OF_MASKS = ("LABEL_UNEXPECTED",)
FEWEST_ALIKE = 2

WITH_UNIT = ("CT",)
"""Modalities whose values have a unit that can be checked."""


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
        dataset = replace(dataset, cases=with_channels(dataset.cases, dataset.channels, wanted, dataset.root))
    except DatasetError as error:
        findings.append(as_finding(error, WHOLE))
    count = wanted if isinstance(wanted, int) else len(wanted)
    masks = mask_reading(at(train, "validate::preprocessing::transforms"))
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
    inferer = resolved(train, at(train, "validate::inferer"))
    target = str(inferer.get("_target_", "")) if isinstance(inferer, Mapping) else ""
    if target.rpartition(".")[2] == SLICE_INFERER:
        return 3
    shape = metadata["network_data_format"]["inputs"]["image"].get("spatial_shape")
    return len(shape) if isinstance(shape, list) else None
