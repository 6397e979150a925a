"""List all that is wrong or odd with a data set: the verb `check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.bundle.forms import Config, read_config, read_forms
from medseg.bundle.load import find_bundle
from medseg.checking.check_report import CheckReport
from medseg.checking.examine import examine
from medseg.checking.expectations import expect, merge_alike
from medseg.checking.fix import write_fixed
from medseg.checking.quiet_pydicom import quiet_pydicom
from medseg.checking.usable_pairs import OnCase
from medseg.data.case import SERIES_NAME
from medseg.data.payload import memory_budget
from medseg.data.splits import read_split
from medseg.errors import UsageError


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
    _require_sense(series, max_ram, straightens_alone=straighten and fix is None)
    configs = _read_configs(bundle) if bundle is not None else None
    parts = read_split(split) if split is not None else None
    with memory_budget(max_ram), quiet_pydicom():
        examined = examine(data, lambda dataset: expect(dataset, configs), parts, on_case, series)
        report = merge_alike(examined) if configs else examined.report
        if fix is None:
            return report
        copy = write_fixed(examined, Path(fix).absolute(), on_copied, straightens=straighten)
    return replace(report, copy=copy)


def _require_sense(series: str | None, max_ram: int | None, *, straightens_alone: bool) -> None:
    if series is not None and not SERIES_NAME.fullmatch(series):
        remedy = "give digits and dots, and :N for a stack"
        raise UsageError("SERIES_INVALID", series, "no number and no end of a UID", remedy)
    if max_ram is not None and max_ram < 1:
        raise UsageError("SIZE_INVALID", max_ram, "no number of bytes above 0", "give a size such as 4G")
    if straightens_alone:
        problem = "straightening resamples, so it is done in a copy only, and none is asked for"
        raise UsageError("FIX_MISSING", "straighten", problem, "say where the copy goes: --fix OUT")


def _read_configs(bundle: str | Path) -> dict[str, Config]:
    root = find_bundle(bundle)
    base = read_forms(root)[0][0].configs
    # A configuration that is not there, or cannot be read, is read once more for its error.
    return {kind: base.get(kind) or read_config(root / "configs" / f"{kind}.json") for kind in ("train", "metadata")}
