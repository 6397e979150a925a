"""Data sets that describe themselves: by a dataset.json as the Decathlon or nnU-Net writes it, or by a CSV table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.cases.case import Case, Dataset, Labels
from medseg.data.cases.layouts import recognise_nnunet
from medseg.data.cases.listing import Folder, Pair, check_present, make_cases, names_in_list, one_or_more
from medseg.data.image_files import is_present
from medseg.errors import DatasetError, OutputError
from medseg.files import write_text
from medseg.text import list_some

DESCRIPTION = "dataset.json"
TABLE = "dataset.csv"


def read_description(path: Path, needs_files: bool = True) -> Dataset:
    """The data set of a ``dataset.json`` in Decathlon or nnU-Net form.

    Decathlon: ``training`` lists ``{"image": path or paths, "label": path}``, where
    ``id`` and ``group`` may stand beside them. nnU-Net: ``channel_names`` and
    ``file_ending``, with the files in ``imagesTr`` and ``labelsTr``.

    Args:
        path: The ``dataset.json``.
        needs_files: Whether a file that ``training`` lists and that is not there is an error.

    Raises:
        DatasetError: DESCRIPTION_INVALID, PATH_OUTSIDE, FILES_MISSING, CASES_MISSING or a bad id.
    """
    content = _load(path)
    labels, channels = _read_labels(content.get("labels", {}), path), _read_channels(content, path)
    if "training" in content:
        pairs, groups = _read_training(content["training"], path)
        if needs_files:
            check_present(path, pairs)
        return Dataset(path.parent, make_cases(pairs, groups), labels, channels, "decathlon")
    if "channel_names" in content and "file_ending" in content:
        return Dataset(path.parent, make_cases(_find_nnunet_pairs(content, path)), labels, channels, "nnunet")
    raise _description_error(
        path, "neither a list 'training' (Decathlon) nor 'channel_names' and 'file_ending' (nnU-Net)"
    )


def write_dataset(dataset: Dataset, folder: str | Path) -> Path:
    """Describe ``dataset`` by a dataset.json in Decathlon form in ``folder``, and return its path.

    Reading it back gives the same cases. Files stay where they are, so ``folder``
    must hold them, at any depth.

    Raises:
        DatasetError: PATH_OUTSIDE, an image or mask is not below ``folder``.
        OutputError: OUTPUT_EXISTS, a dataset.json with other content is there.
    """
    target = Path(folder).absolute() / DESCRIPTION
    training = [_describe_case(case, target) for case in dataset.cases]
    content = {
        "name": dataset.root.name,
        "modality": {str(index): name for index, name in enumerate(dataset.channels)},
        "labels": _describe_labels(dataset.labels),
        "numTraining": len(training),
        "training": training,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise OutputError("OUTPUT_EXISTS", target, "describes something else", "move it away or choose another folder")
    write_text(text, target)
    return target


def resolve_inside(description: Path, text: str) -> str:
    """The absolute path that a dataset.json names by ``text``.

    Raises:
        DatasetError: PATH_OUTSIDE, it leaves the data set's folder (symbolic links in the folder may).
    """
    normal = os.path.normpath(text.replace("\\", "/"))
    if normal.startswith(("/", "..")) or re.match(r"[A-Za-z]:", normal) or "\0" in text:
        raise DatasetError(
            "PATH_OUTSIDE",
            description,
            f"{text!r} leaves the data set's folder",
        )
    return str(description.parent / os.path.normpath(text))


def read_table(path: Path, needs_label: bool = True, needs_files: bool = True) -> Dataset:
    """The data set of a CSV: columns ``image`` (``image_2`` …), ``label``, and perhaps ``id`` and ``group``.

    Where a mask lies in several files, the others stand under ``label_2`` ….

    Relative paths count from the CSV's folder. The separator is a comma or a semicolon.

    Args:
        path: The CSV file, UTF-8.
        needs_label: Whether a row without a mask is an error.
        needs_files: Whether a file that is not there is an error.

    Raises:
        DatasetError: DESCRIPTION_INVALID or FILES_MISSING.
    """
    rows = _read_rows(path)
    image_columns, label_columns = _sort_columns(path, rows[0], needs_label)
    pairs, groups = [], []
    for line, row in enumerate(rows, start=2):
        cells = {key: (value or "").strip() for key, value in row.items() if key}
        images = [cells[column] for column in image_columns]
        if not all(images) or (needs_label and not cells["label"]):
            raise _table_error(path, f"line {line} has an empty cell")
        found = [_resolve(path.parent, text) for text in images]
        names = (cells["id"],) if cells.get("id") else names_in_list(found[0], path.parent)
        masks = [_resolve(path.parent, cells[column]) for column in label_columns if cells.get(column)]
        pairs.append(Pair(names, tuple(found), one_or_more(masks)))
        groups.append(cells.get("group") or None)
    if needs_files:
        check_present(path, pairs)
    return Dataset(path.parent, make_cases(pairs, groups), Labels(), (), "csv")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _description_error(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise _description_error(path, f"holds a {type(content).__name__}, not an object")
    return content


def _read_training(training: object, path: Path) -> tuple[list[Pair], list[str | None]]:
    if not isinstance(training, list):
        raise _description_error(path, "'training' is not a list")
    pairs, groups = [], []
    for number, entry in enumerate(training):
        if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
            raise _description_error(path, f"training[{number}] is {str(entry)[:80]!r}, without 'image' and 'label'")
        images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        masks = entry["label"] if isinstance(entry["label"], list) else [entry["label"]]
        if not images or not masks or not all(isinstance(text, str) for text in (*images, *masks)):
            raise _description_error(path, f"training[{number}] names its files by something else than text")
        if Path(images[0]).name.startswith("._"):
            continue
        found = [image for text in images for image in _find_channels(resolve_inside(path, text))]
        names = (
            (str(entry["id"]),)
            if "id" in entry
            else names_in_list(found[0], path.parent, resolve_inside(path, images[0]))
        )
        pairs.append(Pair(names, tuple(found), one_or_more([resolve_inside(path, text) for text in masks])))
        groups.append(str(entry["group"]) if "group" in entry else None)
    return pairs, groups


def _find_channels(path: str) -> list[str]:
    """The file itself, or, where only ``NAME_0000`` … are there (nnU-Net v1), those."""
    if is_present(path):
        return [path]
    place = Path(path)
    name = re.match(r"(.*?)((?:\.\w+)*)$", place.name)
    stem, suffix = (name[1], name[2]) if name else (place.name, "")
    channels: list[str] = []
    while (place.parent / f"{stem}_{len(channels):04d}{suffix}").is_file():
        channels.append(str(place.parent / f"{stem}_{len(channels):04d}{suffix}"))
    return channels or [path]


def _find_nnunet_pairs(content: Mapping[str, Any], path: Path) -> tuple[Pair, ...]:
    found = recognise_nnunet(Folder(path.parent))
    pairs = found.pairs if found else ()
    alone = [str(p) for p in (*found.images_alone, *found.masks_alone)] if found else []
    expected, channels = content.get("numTraining", len(pairs)), len(content["channel_names"])
    whole = [pair for pair in pairs if len(pair.images) == channels]
    if not pairs or alone or len(whole) != len(pairs) or expected != len(pairs):
        problem = f"{len(whole)} cases with {channels} channels and a mask, numTraining says {expected}"
        problem += f"; without a partner: {list_some(alone)}" if alone else ""
        raise DatasetError("CASES_MISSING", path, problem)
    return pairs


def _read_labels(content: object, path: Path) -> Labels:
    """Names by value, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net)."""
    if not isinstance(content, dict):
        raise _description_error(path, "'labels' is not an object")
    names: dict[int, str] = {}
    regions: dict[str, tuple[int, ...]] = {}
    for key, entry in content.items():
        if isinstance(entry, list) and entry and all(type(value) is int for value in entry):
            regions[key] = tuple(entry)
            continue
        value, name = (key, entry) if isinstance(entry, str) and str(key).isdigit() else (entry, key)
        if not str(value).isdecimal() or isinstance(value, bool) or int(value) in names:
            raise _description_error(path, f"label {key!r}: {entry!r} is not a name with a whole number of its own")
        names[int(value)] = str(name)
    if not content:
        return Labels()
    for value in sorted({value for values in regions.values() for value in values} - names.keys()):
        names[value] = f"label {value}"
    return Labels(dict(sorted({0: "background", **names}.items())), regions)


def _read_channels(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    channels = content.get("channel_names", content.get("modality", {}))
    if isinstance(channels, dict) and all(str(key).isdecimal() for key in channels):
        return tuple(str(channels[key]) for key in sorted(channels, key=int))
    if isinstance(channels, list):
        return tuple(str(name) for name in channels)
    if isinstance(channels, str):
        return (channels,)
    raise _description_error(path, f"channels {str(channels)[:80]!r} are not names by number")


def _describe_labels(labels: Labels) -> dict[str, object]:
    """Decathlon's form, name by value; nnU-Net's where there are regions, which have no value."""
    if not labels.regions:
        return {str(value): name for value, name in sorted(labels.names.items())}
    by_name: dict[str, object] = {name: value for value, name in sorted(labels.names.items())}
    return {**by_name, **{name: list(values) for name, values in labels.regions.items()}}


def _describe_case(case: Case, target: Path) -> dict[str, object]:
    images = [_relate(text, target) for text in case.images]
    entry: dict[str, object] = {"image": images[0] if len(images) == 1 else images}
    if case.label is not None:
        masks = [_relate(text, target) for text in case.label_files]
        entry["label"] = masks[0] if len(masks) == 1 else masks
    return {**entry, "id": case.id, "group": case.group}


def _relate(text: str, target: Path) -> str:
    relative = os.path.relpath(text, target.parent)
    resolve_inside(target, relative)
    return f"./{Path(relative).as_posix()}"


def _description_error(path: Path, problem: str) -> DatasetError:
    return DatasetError(
        "DESCRIPTION_INVALID",
        path,
        problem,
        "list {\"image\": path, \"label\": path} under 'training' and name each value under 'labels'",
    )


def _resolve(folder: Path, text: str) -> str:
    return os.path.normpath(folder / text)


def _read_rows(path: Path) -> list[dict[str | None, str | None]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = ";" if first.count(";") > first.count(",") else ","
        rows: list[dict[str | None, str | None]] = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _table_error(path, f"cannot be read ({error})") from error
    if not rows:
        raise _table_error(path, "has no rows")
    return rows


def _sort_columns(path: Path, row: Mapping[str | None, object], needs_label: bool) -> tuple[list[str], list[str]]:
    """The columns of images, ``image``, ``image_2`` …, and those of masks."""
    columns = [str(column) for column in row if column]
    if "image" not in columns or (needs_label and "label" not in columns):
        raise _table_error(path, f"has the columns {', '.join(columns)}, but 'image' and 'label' are needed")
    more = sorted((c for c in columns if re.fullmatch(r"(image|label)_\d+", c)), key=lambda c: int(c[6:]))
    images, masks = ([c for c in more if c.startswith(kind)] for kind in ("image", "label"))
    return ["image", *images], ["label", *masks]


def _table_error(path: Path, problem: str) -> DatasetError:
    return DatasetError(
        "DESCRIPTION_INVALID", path, problem, "give a header line with image,label and one line for each case"
    )
