"""Recognise how a folder's files make up a data set: an ordered list, first match wins.

A recogniser looks at names only (and page counts of TIFF stacks); it says which images
and masks belong together and which stand alone, and leaves errors to its caller.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from medseg.data.cases.listing import Folder, Found, Pair, folder_names, group_channels, names_of, stem_of, unique_names
from medseg.data.cases.publishers import recognise_acdc, recognise_brats, recognise_xrays
from medseg.data.dicom.sniff import find_dicom_masks
from medseg.data.image_files import find_masks
from medseg.errors import DatasetError, ImageError
from medseg.text import list_some

IMAGE_FOLDERS = (
    *("images", "image", "imgs", "img", "imagesTr", "scans", "volumes"),
    *("Original", "2d_images", "CXR_png"),
)
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "labelsTr", "segmentations", "annotations", "references", "gt"),
    *("Ground Truth", "ground_truth", "2d_masks"),
)
IMAGE_ENDING = re.compile(r"[-_](image|img|0000)$", re.IGNORECASE)
MASK_ENDING = re.compile(r"[-_](masks?|gt|seg|segmentation|labels?|manual)$", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set: its name, what it looks like, and how to tell."""

    name: str
    looks_like: str
    recognise: Callable[[Folder], Found | None]


def recognise_nnunet(folder: Folder) -> Found | None:
    """``imagesTr/CASE_0000.nii.gz`` (``_0001`` …: further channels) and ``labelsTr/CASE.nii.gz``."""
    images, masks = folder.root / "imagesTr", folder.root / "labelsTr"
    if not (images.is_dir() and masks.is_dir()):
        return None
    channels = group_channels(Folder(images).images)
    labels, repeated = unique_names(Folder(masks).images, stem_of)
    if channels is None or not any(name.name in labels for name in channels):
        return None
    count = max(len(paths) for paths in channels.values())
    whole = {place: paths for place, paths in channels.items() if place.name in labels and len(paths) == count}
    pairs = [Pair(names_of(place, images), _texts(p), str(labels[place.name])) for place, p in sorted(whole.items())]
    used = {place.name for place in whole}
    alone = [path for place, paths in channels.items() if place not in whole for path in paths]
    lone_masks = [path for name, path in labels.items() if name not in used]
    return Found(tuple(pairs), tuple(alone), (*lone_masks, *repeated))


def _recognise_folders(folder: Folder) -> Found | None:
    """A folder of images beside one of masks, equal names up to an ending such as ``_mask``."""
    images, several = folder.below(IMAGE_FOLDERS), folder.all_below(MASK_FOLDERS)
    if images is None or not several:
        return None
    if len(several) > 1:
        raise DatasetError(
            "MASK_FOLDERS_SEVERAL",
            folder.root,
            f"{' and '.join(path.name for path in several)} could all hold the reference masks",
        )
    masks = several[0]
    image_at, repeated = unique_names(Folder(images).images, lambda path: names_of(path, images)[1])
    short = {IMAGE_ENDING.sub("", name): name for name in image_at}
    mask_at: dict[str, Path] = {}
    alone: list[Path] = []
    for path in find_masks(masks):
        name = names_of(path, masks)[1]
        owner = name if name in image_at else short.get(MASK_ENDING.sub("", name))
        if owner is None or owner in mask_at:
            alone.append(path)
        else:
            mask_at[owner] = path
    pairs = [Pair(names_of(image_at[n], images), (str(image_at[n]),), str(mask_at[n])) for n in sorted(mask_at)]
    lone_images = [path for name, path in image_at.items() if name not in mask_at]
    return Found(tuple(pairs), (*lone_images, *repeated), tuple(alone))


def _recognise_nested(folder: Folder) -> Found | None:
    """One folder of images and one of masks, one or two folders down; of the same frames as TIFF and PNG, the TIFFs."""
    below = [place for depth in ("*", "*/*") for place in sorted(folder.root.glob(depth)) if place.is_dir()]
    hidden = [place for place in below if any(part.startswith(".") for part in place.relative_to(folder.root).parts)]
    found = {place: _recognise_folders(Folder(place)) for place in below if place not in hidden}
    sets = {place: each for place, each in found.items() if each is not None and each.pairs}
    frames = {tuple(pair.names[0] for pair in each.pairs) for each in sets.values()}
    if len(frames) != 1:
        return None
    place = min(sets, key=lambda place: ("tif" not in place.name.lower(), place))
    strays = [path for path in folder.images if not any(path.is_relative_to(each) for each in sets)]
    chosen = sets[place]
    return replace(chosen, images_alone=(*chosen.images_alone, *strays))


def _recognise_stacks(folder: Folder) -> Found | None:
    """``NAME-volume.tif`` and ``NAME-labels.tif``, each page one case (ISBI 2012); ``test-…`` may lack labels."""
    tiffs = [path for path in folder.images if path.suffix.lower() in (".tif", ".tiff")]
    volumes = {m[1]: p for p in tiffs if (m := re.fullmatch(r"(.+)[-_](?:volume|images?)", p.stem))}
    labels = {m[1]: p for p in tiffs if (m := re.fullmatch(r"(.+)[-_](?:labels?|masks?)", p.stem))}
    both = sorted(volumes.keys() & labels.keys())
    if not both:
        return None
    pairs = [pair for name in both for pair in _pair_pages(folder, volumes[name], labels[name])]
    alone = tuple(path for name, path in volumes.items() if name not in labels and name != "test")
    return Found(tuple(pairs), alone, tuple(path for name, path in labels.items() if name not in volumes))


def _pair_pages(folder: Folder, volume: Path, labels: Path) -> list[Pair]:
    pages, label_pages = _count_pages(volume), _count_pages(labels)
    if pages != label_pages:
        raise DatasetError("PAGES_DIFFER", volume, f"{pages} pages, but {labels.name} has {label_pages}")
    if pages == 1:
        return [Pair(folder.names(volume), (str(volume),), str(labels))]
    names = folder.names(volume)
    return [
        Pair(tuple(f"{name}_{page:03d}" for name in names), (f"{volume}#{page}",), f"{labels}#{page}")
        for page in range(pages)
    ]


def _count_pages(path: Path) -> int:
    try:
        with Image.open(path) as opened:
            return int(getattr(opened, "n_frames", 1))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError("STACK_UNREADABLE", path, f"not a TIFF stack ({error})") from error


def _recognise_segmented_series(folder: Folder) -> Found | None:
    """Folders of DICOM slices, and anywhere among them one SEG or RTSTRUCT for each series."""
    if not any(path.is_dir() for path in folder.images):
        return None
    # What reads DICOM is imported only where there is a series.

    return recognise_segmented_series(folder)


def _recognise_dicom_npz(folder: Folder) -> Found | None:
    """A folder of DICOM slices for each case, its mask an ``.npz`` inside it, or of its name beside it or elsewhere."""
    series = [path for path in folder.images if path.is_dir()]
    arrays = sorted(p for p in folder.root.rglob("*.npz") if not p.name.startswith("."))
    if not series or not arrays:
        return None
    owned = {place: _find_masks_of(place, arrays, series) for place in series}
    owners = Counter(mask for masks in owned.values() for mask in masks)
    mask_of = {place: masks[0] for place, masks in owned.items() if len(masks) == 1 and owners[masks[0]] == 1}
    pairs = [Pair(folder_names(place, folder.root), (str(place),), str(mask)) for place, mask in mask_of.items()]
    used = set(mask_of.values())
    return Found(tuple(pairs), tuple(p for p in series if p not in mask_of), tuple(p for p in arrays if p not in used))


def _find_masks_of(place: Path, arrays: list[Path], series: list[Path]) -> list[Path]:
    """The arrays that could be a series' mask: those inside it, else the one beside it, else those of its name."""
    elsewhere = [path for path in arrays if path.parent not in series]
    named = [path for path in elsewhere if place.name in (path.stem, MASK_ENDING.sub("", path.stem))]
    return [path for path in arrays if path.parent == place] or [p for p in named if p.parent == place.parent] or named


def _recognise_side_by_side(folder: Folder) -> Found | None:
    """Each mask in the folder of its image, named like it with ``_mask``, ``_gt``, ``_seg`` or ``_label`` added."""
    return _pair_beside(folder, folder.images)


def _pair_beside(folder: Folder, paths: Iterable[Path]) -> Found | None:
    paths = tuple(paths)
    image_at, _ = unique_names(paths, lambda path: str(path.with_name(stem_of(path))))
    mask_of: dict[Path, Path] = {}
    for path in paths:
        # A file that is called "_mask" alone is named after no image.
        owner = image_at.get(str(path.with_name(MASK_ENDING.sub("", stem_of(path)) or stem_of(path))))
        if owner not in (None, path) and MASK_ENDING.search(stem_of(path)):
            mask_of.setdefault(owner, path)
    if not mask_of:
        return None
    masks = set(mask_of.values())
    others = [path for path in paths if path not in mask_of and path not in masks]
    lone_masks = tuple(path for path in others if MASK_ENDING.search(stem_of(path)))
    pairs = [Pair(folder.names(image), (str(image),), str(mask)) for image, mask in sorted(mask_of.items())]
    return Found(tuple(pairs), tuple(path for path in others if path not in lone_masks), lone_masks)


def _texts(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


LAYOUTS = (
    Layout("nnunet", "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz", recognise_nnunet),
    Layout(
        "acdc", "patient001/patient001_frame01.nii.gz and …_gt.nii.gz, or …_4d.nii.gz with Info.cfg", recognise_acdc
    ),
    Layout("brats", "CASE/CASE_flair, _t1, _t1ce, _t2 and _seg (.nii.gz)", recognise_brats),
    Layout(
        "chest-x-rays", "MCUCXR_0001_0.png or CHNCXR_0001_0.png, and masks, whole or left and right", recognise_xrays
    ),
    Layout(
        "dicom-and-seg", "CASE/*.dcm, and for each series a DICOM SEG or RTSTRUCT anywhere", _recognise_segmented_series
    ),
    Layout("image-and-mask-folders", "images/NAME.png and masks/NAME.png (or NAME_mask.png)", _recognise_folders),
    Layout("tiff-stacks", "train-volume.tif and train-labels.tif, one case on each page", _recognise_stacks),
    Layout("dicom-and-npz", "CASE/*.dcm with CASE/mask.npz or CASE.npz", _recognise_dicom_npz),
    Layout("side-by-side", "NAME.tif and NAME_mask.tif (or _gt, _seg, _label) in one folder", _recognise_side_by_side),
    Layout(
        "nested-folders", "NAME/Original/1.tif and NAME/Ground Truth/1.tif, one or two folders down", _recognise_nested
    ),
)
"""The layouts that a folder without dataset.json or dataset.csv is held against, in this order."""


Place = tuple[Path, str]
"""A folder, and the SeriesInstanceUID of one of its series where it holds several, else an empty text."""


def recognise_segmented_series(folder: Folder) -> Found | None:
    """Folders of DICOM slices, and anywhere among them one SEG or RTSTRUCT for each series."""
    series = [path for path in folder.images if path.is_dir()]
    masks = find_dicom_masks(folder.root) if series else []
    if not masks:
        return None
    wanted, wrong = _find_wanted(masks, folder.root)
    places = _find_places(series, {uid for uids in wanted.values() for uid in uids})
    owned: dict[Place, list[Path]] = {}
    lone = []
    for mask, uids in wanted.items():
        place = next((places[uid] for uid in uids if uid in places), None)
        if place is None:
            lone.append(mask)
        else:
            owned.setdefault(place, []).append(mask)
    wrong += [_describe_several(place, found, folder.root) for place, found in owned.items() if len(found) > 1]
    pairs = [_make_pair(place, found[0], folder.root) for place, found in owned.items() if len(found) == 1]
    used = {path for path, _ in owned}
    alone = tuple(path for path in folder.images if path not in used)
    return Found(tuple(pairs), alone, tuple(lone), wrong=tuple(wrong))


def _find_wanted(masks: Iterable[Path], root: Path) -> tuple[dict[Path, tuple[str, ...]], list[str]]:
    """The series that each mask was drawn on, and in words the masks that cannot be read."""
    from medseg.data.dicom.source import read_referenced_series

    wanted: dict[Path, tuple[str, ...]] = {}
    wrong = []
    for mask in masks:
        try:
            wanted[mask] = read_referenced_series(mask)
        except ImageError as error:
            wrong.append(f"{mask.relative_to(root).as_posix()} is damaged ({error.code})")
    return wanted, wrong


def _find_places(series: Iterable[Path], wanted: set[str]) -> dict[str, Place]:
    """Where each of the series that are wanted lies."""
    from medseg.data.dicom.source import list_image_series

    places: dict[str, Place] = {}
    for path in series:
        uids = list_image_series(path)
        for uid in uids & wanted:
            places.setdefault(uid, (path, uid if len(uids) > 1 else ""))
    return places


def _make_pair(place: Place, mask: Path, root: Path) -> Pair:
    path, uid = place
    names = folder_names(path, root)
    return Pair(
        tuple(f"{name}_series{uid}" for name in names) if uid else names,
        (f"{path}#series={uid}" if uid else str(path),),
        str(mask),
    )


def _describe_several(place: Place, masks: list[Path], root: Path) -> str:
    named = list_some([mask.relative_to(root).as_posix() for mask in masks])
    return f"{folder_names(place[0], root)[1]} has {len(masks)} masks: {named}"
