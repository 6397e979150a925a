"""Results as Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from results import read_rows

Row = Mapping[str, str]

STARTUP = ("command", "wall time [s]: median (least – most)", "ratio: median (least – most)", "peak memory [MiB]")
WAYS = (
    "way",
    "time [s]: median (least – most)",
    "times as fast: median (least – most)",
    "growth of memory [MiB]",
    "… in the run proper",
    "prepared in [s] (first time)",
    "equal labels [%]",
)
CHAINS = (*WAYS[:4], "equal labels [%]", "Dice to MONAI's", "Dice to the truth")
READERS = ("format", "reader", *WAYS[1:4], "equal voxels [%]")
TRAININGS = (
    "way",
    "time of a step [s]: median (least – most)",
    *WAYS[2:4],
    "of it waiting for data [%]",
    "loss of the last step",
    "relative difference to MONAI's",
)
TARGETS = ("what", "figure", "wanted", "found: median (least – most)", "")


def with_tables(page: str, results: Path) -> str:
    """``page`` with each `<!-- NAME -->` … `<!-- end -->` filled from that table's results, if there are any."""

    def filled(match: re.Match[str]) -> str:
        path = results / f"{match[1]}.csv"
        if match[1] not in TABLES or not path.is_file():
            return match[0]
        return f"<!-- {match[1]} -->\n{TABLES[match[1]](read_rows(path))}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", filled, page, flags=re.DOTALL)


def startup_table(rows: Sequence[Row]) -> str:
    """Commands, with a line on what was measured where."""
    cells = [
        [f"`{row['command']}`", _spread(row, "seconds"), _spread(row, "ratio"), f"{float(row['peak_mib']):.0f}"]
        for row in rows
    ]
    return f"{_table(STARTUP, cells)}\n\n{_circumstances(rows[0])}"


def ways_table(rows: Sequence[Row]) -> str:
    """A table for each network, with a line on what was measured where."""
    return "\n\n".join(_ways_of_network(group, of_group) for group, of_group in _groups(rows))


def _ways_of_network(group: str, rows: Sequence[Row]) -> str:
    cells = [
        [
            row["command"],
            _spread(row, "seconds"),
            _spread(row, "speed"),
            _whole(row["growth_mib"]),
            _whole(row["run_growth_mib"]),
            f"{short(row['prepare_seconds'])} ({short(row['first_prepare_seconds'])})",
            row["equal_percent"],
        ]
        for row in rows
    ]
    first = rows[0]
    windows = f"window {first['window']}, overlap {first['overlap']}, batch of medseg {first['batch']}"
    work = f"{first['size']} voxels, {windows}"
    return f"**{group}**\n\n{_table(WAYS, cells)}\n\n{work}; {_circumstances(first)}"


def chains_table(rows: Sequence[Row]) -> str:
    """Chains, folder by folder, with a line on what was measured where."""
    return "\n\n".join(_chains_of(group, of_group) for group, of_group in _groups(rows))


def _chains_of(group: str, rows: Sequence[Row]) -> str:
    cells = [
        [
            row["command"],
            _spread(row, "seconds"),
            _spread(row, "speed"),
            _whole(row["growth_mib"]),
            *(row[key] for key in ("equal_percent", "dice", "truth_dice")),
        ]
        for row in rows
    ]
    first = rows[0]
    sizes = f"{first['shape']} voxels and {first['field_mm']} mm"
    work = f"{first['cases']} scans of {sizes}, bundle {first['bundle']}"
    return f"**{group}**\n\n{_table(CHAINS, cells)}\n\n{work}; {_circumstances(first)}"


def scaling_table(rows: Sequence[Row]) -> str:
    """Volumes of each group, with a line on what was measured where."""
    head = ("volumes", "voxels", WAYS[1], "growth of memory in the run proper [MiB]")
    cells = [[row["group"], row["command"], _spread(row, "seconds"), _whole(row["run_growth_mib"])] for row in rows]
    first = rows[0]
    work = f"{first['way']}, {first['network']}, window {first['window']}, overlap {first['overlap']}"
    return f"{_table(head, cells)}\n\n{work}; {_circumstances(first)}"


def training_table(rows: Sequence[Row]) -> str:
    """Ways of training, with a line on what was measured where."""
    cells = [
        [
            row["command"],
            _spread(row, "seconds"),
            _spread(row, "speed"),
            _whole(row["growth_mib"]),
            short(row["waited_percent"]),
            f"{float(row['loss']):.6f}",
            short(row["loss_apart"]) if row["loss_apart"] else "other numbers drawn",
        ]
        for row in rows
    ]
    first = rows[0]
    work = f"bundle {first['bundle']}, {first['cases']} cases, {first['epochs']} epochs after the first"
    return f"{_table(TRAININGS, cells)}\n\n{work}; {_circumstances(first)}"


def targets_table(rows: Sequence[Row]) -> str:
    """Every target with its verdict."""
    cells = [
        [row["group"], row["figure"], row["wanted"], _spread(row, "found") if row["found"] else "–", row["verdict"]]
        for row in rows
    ]
    return _table(TARGETS, cells)


def short(number: str) -> str:
    """Three digits, more where the number lies near 1.

    >>> short("0.01234"), short("1234.5")
    ('0.0123', '1234')
    """
    value = float(number)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _spread(row: Row, name: str) -> str:
    least, most = ("least", "most") if name == "found" else (f"least_{name}", f"most_{name}")
    if row[least] == row[most]:
        return f"{float(row[name]):.5g}"
    return f"{short(row[name])} ({short(row[least])} – {short(row[most])})"


def _whole(number: str) -> str:
    return f"{float(number):.0f}"


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [
        (group, [row for row in rows if row["group"] == group]) for group in dict.fromkeys(r["group"] for r in rows)
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _circumstances(row: Row) -> str:
    told = [f"{row['repeats']} rounds"]
    if row.get("clock"):
        told.append("time by the clock" if row["clock"] == "wall" else "time of the processor, other programs beside")
    told += [f"{row['threads']} threads"] if row.get("threads") else []
    told += [row["date"], row["hardware"]]
    named = ("python", "torch", "monai", "medseg", "openvino", "nnunetv2")
    return "; ".join([*told, *(f"{name} {row[name]}" for name in named if row.get(name))]) + "."


def reading_table(rows: Sequence[Row]) -> str:
    """Readers, format by format, with a line on what was measured where."""
    cells = [
        [
            row["group"],
            row["command"],
            _spread(row, "seconds"),
            _spread(row, "speed"),
            _whole(row["growth_mib"]),
            row["equal_percent"],
        ]
        for row in rows
    ]
    return f"{_table(READERS, cells)}\n\n{rows[0]['size']} voxels; {_circumstances(rows[0])}"


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "startup": startup_table,
    "reading": reading_table,
    "sliding_window": ways_table,
    "pipeline": chains_table,
    "scaling": scaling_table,
    "training": training_table,
    "targets": targets_table,
}
"""What fills each mark of the page."""
