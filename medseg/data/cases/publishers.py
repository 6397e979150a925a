"""Data sets as their publishers ship them: ACDC's hearts, BraTS' brains, two sets of chest X-rays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.cases.case import BRAIN_CHANNELS, Labels, modality_of
from medseg.data.cases.listing import Folder, Found, Pair, folder_names, names_of, one_or_more, stem_of
from medseg.errors import DatasetError
from medseg.text import list_some

MASK = "mask"
TUMOUR_MASKS = ("seg", "segm", "otmulticlass", "gold")
"""Words for BraTS' masks; one case of 2020 is shipped with ``W39_1998.09.19_Segm.nii`` instead of ``…_seg``."""

TUMOUR_LABELS_2023 = {0: "background", 1: "necrotic core", 2: "oedema", 3: "enhancing tumour"}
TUMOUR_LABELS = {0: "background", 1: "necrotic and non-enhancing core", 2: "oedema", 4: "enhancing tumour"}
"""The values of BraTS' masks from 2017 to 2021; 3 is not used."""

ACDC_LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
ACDC_FILE = re.compile(r"(patient\d+)_(?:4d|frame(\d+)(_gt)?)")
CFG_LINE = re.compile(r"^\s*(\w+)\s*:\s*(\d+)\s*$", re.MULTILINE)

XRAY_FILE = re.compile(r"((?:MCU|CHN)CXR_\d+_[01])(_mask)?")
XRAY_HALVES = ("leftmask", "rightmask")
XRAY_MASKS = ("mask", "masks", "manualmask")


@dataclass
class _Heart:
    """A patient's files: the 4D cine with the frames wanted of it, frames and masks by frame number, from 1."""

    name: str
    place: Path
    cines: list[Path] = field(default_factory=list)
    wanted: tuple[int, ...] = ()
    frames: dict[int, list[Path]] = field(default_factory=dict)
    masks: dict[int, list[Path]] = field(default_factory=dict)


def recognise_acdc(folder: Folder) -> Found | None:
    """``patientNNN/patientNNN_frameNN.nii.gz`` beside ``…_gt``, or the frames ED and ES of ``…_4d`` by Info.cfg."""
    hearts = _find_hearts(folder)
    if not hearts:
        return None
    problems = []
    for heart in hearts:
        if heart.cines and not heart.frames:
            numbers = _read_key_frames(heart.place)
            if isinstance(numbers, str):
                problems.append(f"{heart.name}: {numbers}")
            else:
                heart.wanted = numbers
    if problems:
        raise DatasetError(
            "FRAMES_UNKNOWN",
            folder.root,
            f"which frames of {len(problems)} 4D files are end-diastole and end-systole is not said: "
            f"{list_some(problems)}",
        )
    pairs = [pair for heart in hearts for pair in _pair_frames(heart, folder.root)]
    used = {path for pair in pairs for path in (*pair.images, pair.label)}
    images = [path for heart in hearts for paths in heart.frames.values() for path in paths]
    images += [path for heart in hearts if heart.wanted and len(heart.cines) > 1 for path in heart.cines]
    masks = [path for heart in hearts for paths in heart.masks.values() for path in paths]
    return Found(
        tuple(pairs),
        tuple(path for path in images if str(path) not in used),
        tuple(path for path in masks if str(path) not in used),
        Labels(dict(ACDC_LABELS)),
    )


def _find_hearts(folder: Folder) -> list[_Heart]:
    hearts: dict[tuple[Path, str], _Heart] = {}
    for path in folder.images:
        match = ACDC_FILE.fullmatch(stem_of(path))
        if match is None:
            continue
        heart = hearts.setdefault((path.parent, match[1]), _Heart(match[1], path.parent))
        if match[2] is None:
            heart.cines.append(path)
        else:
            (heart.masks if match[3] else heart.frames).setdefault(int(match[2]), []).append(path)
    return list(hearts.values())


def _pair_frames(heart: _Heart, root: Path) -> list[Pair]:
    """A case for each frame that is there once: a file of its own, or else a frame of the one 4D file."""
    found = {number: (path, str(path)) for number, (path, *others) in heart.frames.items() if not others}
    if len(heart.cines) == 1:
        for number in heart.wanted:
            called = heart.place / f"{heart.name}_frame{number:02d}"
            found[number] = (called, f"{heart.cines[0]}#t{number - 1}")
    masks = {number: str(path) for number, (path, *others) in heart.masks.items() if not others}
    return [
        Pair(names_of(called, root), (image,), masks.get(number)) for number, (called, image) in sorted(found.items())
    ]


def _read_key_frames(place: Path) -> tuple[int, ...] | str:
    """The numbers of end-diastole and end-systole in Info.cfg, counted from 1, or what is wrong with it."""
    path = next((path for path in sorted(place.iterdir()) if path.name.lower() == "info.cfg"), None)
    if path is None:
        return "there is no Info.cfg"
    try:
        entries = {key.lower(): int(value) for key, value in CFG_LINE.findall(path.read_text(encoding="utf-8-sig"))}
    except (OSError, UnicodeDecodeError) as error:
        return f"Info.cfg cannot be read ({error})"
    missing = [key for key in ("ED", "ES") if key.lower() not in entries]
    if missing:
        return f"Info.cfg has no {' and no '.join(missing)}"
    numbers = tuple(dict.fromkeys((entries["ed"], entries["es"])))
    count = entries.get("nbframe", max(numbers))
    outside = [str(number) for number in numbers if not 1 <= number <= count]
    return f"Info.cfg names frame {' and '.join(outside)} of {count}" if outside else numbers


def recognise_brats(folder: Folder) -> Found | None:
    """One folder for each case, its files named by modality (flair, t1, t1ce, t2) and ``seg``."""
    return recognise_modalities(folder, needs_mask=True)


def recognise_modalities(folder: Folder, needs_mask: bool = False) -> Found | None:
    """As :func:`recognise_brats`, with at least one mask or with none; at least two modalities."""
    cases: dict[Path, list[tuple[str, Path]]] = {}
    for path in folder.images:
        role = _find_tumour_role(stem_of(path))
        if role:
            cases.setdefault(path.parent, []).append((role, path))
    present = {role for files in cases.values() for role, _ in files}
    channels = tuple(name for name in BRAIN_CHANNELS if name in present)
    if len(channels) < 2 or (needs_mask and MASK not in present):
        return None
    pairs, lacking, alone = [], [], []
    for place, files in sorted(cases.items()):
        roles = [role for role, _ in files]
        missing = [name for name in channels if name not in roles]
        if missing:
            lacking.append(f"{folder_names(place, folder.root)[1]} lacks {', '.join(missing)}")
        elif len(set(roles)) < len(roles):
            alone += [path for role, path in files if roles.count(role) > 1]
        else:
            at = {role: str(path) for role, path in files}
            names = folder_names(place, folder.root)
            pairs.append(Pair(names, tuple(at[name] for name in channels), at.get(MASK)))
    masks = [path for files in cases.values() for role, path in files if role == MASK]
    return Found(
        tuple(pairs),
        tuple(path for path in alone if path not in masks),
        tuple(path for path in alone if path in masks),
        _find_tumour_labels(path for files in cases.values() for _, path in files),
        channels,
        lacking=tuple(lacking),
    )


def _find_tumour_labels(paths: Iterable[Path]) -> Labels:
    """What the masks' values mean, by the year's spelling of the modalities; before 2017 nothing is known of them."""
    words = {word for path in paths for word in _split_words(stem_of(path))}
    if {"t1n", "t2f"} & words:
        return Labels(dict(TUMOUR_LABELS_2023))
    return Labels(dict(TUMOUR_LABELS)) if "t1ce" in words else Labels()


def _find_tumour_role(stem: str) -> str | None:
    """The modality, or :data:`MASK`, that the first or last word of a file name stands for."""
    words = _split_words(stem)
    for word in (words[-1], words[0]):
        role = MASK if word in TUMOUR_MASKS else modality_of(word)
        if role:
            return role
    return None


def _split_words(stem: str) -> list[str]:
    return re.split(r"[-_. ]", stem.lower())


def recognise_xrays(folder: Folder) -> Found | None:
    """``MCUCXR_0001_0.png`` (Montgomery, masks perhaps in halves) and ``CHNCXR_0001_0.png`` (Shenzhen)."""
    images: dict[str, list[Path]] = {}
    masks: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in folder.images:
        match = XRAY_FILE.fullmatch(stem_of(path))
        if match is None:
            others.append(path)
            continue
        parents = {part.lower() for part in path.relative_to(folder.root).parts[:-1]}
        is_mask = bool(match[2]) or not parents.isdisjoint((*XRAY_HALVES, *XRAY_MASKS))
        (masks if is_mask else images).setdefault(match[1], []).append(path)
    if not images or not masks:
        return None
    once = {name: paths[0] for name, paths in images.items() if len(paths) == 1 or name not in masks}
    pairs = [
        Pair(names_of(once[name], folder.root), (str(once[name]),), one_or_more(map(str, masks.get(name, ()))))
        for name in once
    ]
    are_drawn = {name[:3] for name in masks}
    # The publisher drew no masks for 96 of Shenzhen's 662 images; Montgomery's are complete.
    is_left_out = {name: name not in masks and name.startswith("CHN") and "CHN" in are_drawn for name in once}
    return Found(
        tuple(pair for name, pair in zip(once, pairs, strict=True) if not is_left_out[name]),
        tuple(others),
        tuple(path for name, paths in masks.items() if name not in images for path in paths),
        wrong=(*_list_doubled(images, once, folder.root), *_list_unfit(masks, folder.root)),
        unlabelled=tuple(pair for name, pair in zip(once, pairs, strict=True) if is_left_out[name]),
    )


def _list_doubled(images: dict[str, list[Path]], once: dict[str, Path], root: Path) -> list[str]:
    several = {name: paths for name, paths in images.items() if name not in once}
    return [f"{name} is there {len(paths)} times: {_list_paths(paths, root)}" for name, paths in several.items()]


def _list_unfit(masks: dict[str, list[Path]], root: Path) -> list[str]:
    """Masks that are neither one whole nor a left and a right half."""
    wrong = []
    for name, paths in masks.items():
        halves = sorted(path.parent.name.lower() for path in paths if path.parent.name.lower() in XRAY_HALVES)
        if (len(paths), halves) not in ((1, []), (2, list(XRAY_HALVES))):
            wrong.append(f"{name} has neither one mask nor a left and a right half: {_list_paths(paths, root)}")
    return wrong


def _list_paths(paths: Iterable[Path], root: Path) -> str:
    return list_some([path.relative_to(root).as_posix() for path in paths])
