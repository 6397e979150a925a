"""Recognise how a folder's files make up a data set: an ordered list, first match wins.

A recogniser looks at names only (and page counts of TIFF stacks); it says which images
and masks belong together and which stand alone, and leaves errors to its caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Labels
from medseg.data.listing import Folder, Found, Pair, names_of, numbered, stem_of, unique_names
from medseg.errors import DatasetError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagesTr", "scans", "volumes")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "labelsTr", "segmentations", "annotations", "references", "gt")
IMAGE_ENDING = re.compile(r"[-_](image|img|0000)$", re.IGNORECASE)
MASK_ENDING = re.compile(r"[-_](masks?|gt|seg|segmentation|labels?|manual)$", re.IGNORECASE)

MODALITIES = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "t2": ("t2", "t2w"),
}
"""Brain tumour channels in BraTS order, with the words that name each in a file name."""

MASK = "mask"
TUMOUR_MASKS = ("seg", "otmulticlass", "gold")
ACDC_LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}


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
    channels = numbered(Folder(images).images)
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


def _acdc(folder: Folder) -> Found | None:
    """``patientNNN/patientNNN_frameNN.nii.gz`` beside ``…_gt.nii.gz``; the 4D cine is left out."""
    frames = [path for path in folder.images if re.match(r"patient\d+_frame\d+(_gt)?$", stem_of(path))]
    found = _beside(folder, frames)
    return Found(found.pairs, found.images_alone, found.masks_alone, Labels(dict(ACDC_LABELS))) if found else None


def _brats(folder: Folder) -> Found | None:
    """One folder for each case, its files named by modality (flair, t1, t1ce, t2) and ``seg``."""
    cases: dict[Path, list[tuple[str, Path]]] = {}
    for path in folder.images:
        role = _tumour_role(stem_of(path))
        if role:
            cases.setdefault(path.parent, []).append((role, path))
    present = {role for files in cases.values() for role, _ in files}
    channels = tuple(name for name in MODALITIES if name in present)
    if MASK not in present or len(channels) < 2:
        return None
    wanted = sorted((*channels, MASK))
    whole = {place: dict(files) for place, files in cases.items() if sorted(role for role, _ in files) == wanted}
    pairs = [
        Pair(_folder_names(place, folder.root), _texts(files[c] for c in channels), str(files[MASK]))
        for place, files in sorted(whole.items())
    ]
    broken = [pair for place, files in cases.items() if place not in whole for pair in files]
    images = tuple(path for role, path in broken if role != MASK)
    return Found(tuple(pairs), images, tuple(path for role, path in broken if role == MASK), channels=channels)


def _tumour_role(stem: str) -> str | None:
    """The modality, or :data:`MASK`, that the first or last word of a file name stands for."""
    words = re.split(r"[-_. ]", stem.lower())
    for word in (words[-1], words[0]):
        if word in TUMOUR_MASKS:
            return MASK
        for name, spellings in MODALITIES.items():
            if word in spellings:
                return name
    return None


def _folders(folder: Folder) -> Found | None:
    """A folder of images beside one of masks, equal names up to an ending such as ``_mask``."""
    images, several = folder.below(IMAGE_FOLDERS), folder.all_below(MASK_FOLDERS)
    if images is None or not several:
        return None
    if len(several) > 1:
        raise DatasetError(
            "MASK_FOLDERS_SEVERAL",
            folder.root,
            f"{' and '.join(path.name for path in several)} could all hold the reference masks",
            "move the others away, or describe the cases in a dataset.json or dataset.csv",
        )
    masks = several[0]
    image_at, repeated = unique_names(Folder(images).images, lambda path: names_of(path, images)[1])
    short = {IMAGE_ENDING.sub("", name): name for name in image_at}
    mask_at: dict[str, Path] = {}
    alone: list[Path] = []
    for path in Folder(masks).images:
        name = names_of(path, masks)[1]
        owner = name if name in image_at else short.get(MASK_ENDING.sub("", name))
        if owner is None or owner in mask_at:
            alone.append(path)
        else:
            mask_at[owner] = path
    pairs = [Pair(names_of(image_at[n], images), (str(image_at[n]),), str(mask_at[n])) for n in sorted(mask_at)]
    lone_images = [path for name, path in image_at.items() if name not in mask_at]
    return Found(tuple(pairs), (*lone_images, *repeated), tuple(alone))


def _stacks(folder: Folder) -> Found | None:
    """``NAME-volume.tif`` and ``NAME-labels.tif``, each page one case (ISBI 2012); ``test-…`` may lack labels."""
    tiffs = [path for path in folder.images if path.suffix.lower() in (".tif", ".tiff")]
    volumes = {m[1]: p for p in tiffs if (m := re.fullmatch(r"(.+)[-_](?:volume|images?)", p.stem))}
    labels = {m[1]: p for p in tiffs if (m := re.fullmatch(r"(.+)[-_](?:labels?|masks?)", p.stem))}
    both = sorted(volumes.keys() & labels.keys())
    if not both:
        return None
    pairs = [pair for name in both for pair in _pages(folder, volumes[name], labels[name])]
    alone = tuple(path for name, path in volumes.items() if name not in labels and name != "test")
    return Found(tuple(pairs), alone, tuple(path for name, path in labels.items() if name not in volumes))


def _pages(folder: Folder, volume: Path, labels: Path) -> list[Pair]:
    pages, label_pages = _page_count(volume), _page_count(labels)
    if pages != label_pages:
        raise DatasetError(
            "PAGES_DIFFER", volume, f"{pages} pages, but {labels.name} has {label_pages}", "export both stacks again"
        )
    if pages == 1:
        return [Pair(folder.names(volume), (str(volume),), str(labels))]
    names = folder.names(volume)
    return [
        Pair(tuple(f"{name}_{page:03d}" for name in names), (f"{volume}#{page}",), f"{labels}#{page}")
        for page in range(pages)
    ]


def _page_count(path: Path) -> int:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return int(getattr(opened, "n_frames", 1))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError("STACK_UNREADABLE", path, f"not a TIFF stack ({error})", "export the stack again") from error


def _dicom_npz(folder: Folder) -> Found | None:
    """A folder of DICOM slices for each case, its mask an ``.npz`` inside it or beside it by its name."""
    series = [path for path in folder.images if path.is_dir()]
    arrays = sorted(p for p in folder.root.rglob("*.npz") if not p.name.startswith("."))
    if not series or not arrays:
        return None
    mask_of: dict[Path, Path] = {}
    for place in series:
        own = [p for p in arrays if p.parent == place] or [
            p for p in arrays if p == place.with_name(f"{place.name}.npz")
        ]
        if len(own) == 1:
            mask_of[place] = own[0]
    pairs = [Pair(_folder_names(place, folder.root), (str(place),), str(mask)) for place, mask in mask_of.items()]
    used = set(mask_of.values())
    return Found(tuple(pairs), tuple(p for p in series if p not in mask_of), tuple(p for p in arrays if p not in used))


def _side_by_side(folder: Folder) -> Found | None:
    """Each mask in the folder of its image, named like it with ``_mask``, ``_gt``, ``_seg`` or ``_label`` added."""
    return _beside(folder, folder.images)


def _beside(folder: Folder, paths: Iterable[Path]) -> Found | None:
    paths = tuple(paths)
    image_at, _ = unique_names(paths, lambda path: str(path.with_name(stem_of(path))))
    mask_of: dict[Path, Path] = {}
    for path in paths:
        owner = image_at.get(str(path.with_name(MASK_ENDING.sub("", stem_of(path)))))
        if owner is not None and MASK_ENDING.search(stem_of(path)):
            mask_of.setdefault(owner, path)
    if not mask_of:
        return None
    masks = set(mask_of.values())
    others = [path for path in paths if path not in mask_of and path not in masks]
    lone_masks = tuple(path for path in others if MASK_ENDING.search(stem_of(path)))
    pairs = [Pair(folder.names(image), (str(image),), str(mask)) for image, mask in sorted(mask_of.items())]
    return Found(tuple(pairs), tuple(path for path in others if path not in lone_masks), lone_masks)


def _folder_names(place: Path, root: Path) -> tuple[str, str]:
    """A case folder's name and its path; the root itself goes by its own name."""
    return place.name, place.relative_to(root).as_posix() if place != root else place.name


def _texts(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


LAYOUTS = (
    Layout("nnunet", "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz", recognise_nnunet),
    Layout("acdc", "patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz", _acdc),
    Layout("brats", "CASE/CASE_flair, _t1, _t1ce, _t2 and _seg (.nii.gz)", _brats),
    Layout("image-and-mask-folders", "images/NAME.png and masks/NAME.png (or NAME_mask.png)", _folders),
    Layout("tiff-stacks", "train-volume.tif and train-labels.tif, one case on each page", _stacks),
    Layout("dicom-and-npz", "CASE/*.dcm with CASE/mask.npz or CASE.npz", _dicom_npz),
    Layout("side-by-side", "NAME.tif and NAME_mask.tif (or _gt, _seg, _label) in one folder", _side_by_side),
)
"""The layouts that a folder without dataset.json or dataset.csv is held against, in this order."""
