"""Ways to spoil clean data, one for each rule of the doctor."""

import gzip
import json

import numpy as np
from PIL import Image

from tests.checking.conftest import AFFINE, CASES, SHAPE, image_of, mask_of, save


def moved(by_voxels):
    affine = AFFINE.copy()
    affine[:3, 3] += by_voxels * AFFINE[:3, 1]
    return affine


def flipped(axis):
    turn = np.eye(4)
    turn[axis, axis], turn[axis, 3] = -1, SHAPE[axis] - 1
    return AFFINE @ turn


def one_hot(mask):
    return np.stack([mask == value for value in range(3)], axis=-1).astype(np.uint8)


def label(array=None, affine=AFFINE, number=1, **described):
    """Gives one case this mask."""

    def spoil(scans):
        scans.set_label(number, mask_of(number) if array is None else array, affine)
        if described:
            scans.describe(**described)

    return spoil


def image(array=None, affine=AFFINE, number=1, mask=None, **described):
    """Gives one case this image, and a mask on the same grid."""

    def spoil(scans):
        scans.set_image(number, image_of(number) if array is None else array, affine)
        if mask is not None or affine is not AFFINE:
            scans.set_label(number, mask_of(number) if mask is None else mask, affine)
        if described:
            scans.describe(**described)

    return spoil


def undescribed(*steps):
    def spoil(scans):
        scans.undescribe()
        for step in steps:
            step(scans)

    return spoil


def with_nan(array):
    array = array.astype(np.float32)
    array[0, 0, 0] = np.nan
    return array


def split(**parts):
    return lambda scans: {"split": written(scans.root.parent / "split.json", parts)}


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def copied(scans):
    scans.set_image(4, image_of(1))


def nearly_copied(scans):
    scans.set_image(4, image_of(1) + np.random.default_rng(9).integers(-1, 2, SHAPE).astype(np.int16))


def halves(**changed):
    train = changed.get("train", [f"c{n}" for n in range(3)])
    return {"train": train, "validation": [f"c{n}" for n in range(3, CASES)]}


def with_split(step, **parts):
    def spoil(scans):
        step(scans)
        return split(**(parts or halves()))(scans)

    return spoil


def of_one_patient(scans):
    pairs = [{"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz", "group": "p"} for n in range(CASES)]
    scans.describe(training=pairs)


def ground(scans):
    """Case 1 with an empty border half, and its mask upon it."""
    array, mask = image_of(1), np.zeros(SHAPE, np.uint8)
    array[:7] = 0
    mask[1:4, 2:8, 2:8] = 1
    scans.set_image(1, array)
    scans.set_label(1, mask)


def pictures(scans, masks):
    """In place of the scans: pictures of 40 by 30, with these masks."""
    for path in sorted(scans.root.rglob("*.nii.gz")):
        path.unlink()
    scans.undescribe()
    for number, mask in enumerate(masks):
        noise = np.random.default_rng(number).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(noise).save(scans.root / "images" / f"p{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(scans.root / "labels" / f"p{number}.png")


def square(value=1, edge=0):
    mask = np.zeros((40, 30))
    mask[10:20, 8:22] = edge
    mask[11:19, 9:21] = value
    return mask


def of_many_labels(scans):
    pictures(scans, [np.random.default_rng(n).integers(0, 200, (40, 30)) for n in range(2)])


def volume_and_picture(scans):
    scans.undescribe()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 30), dtype=np.uint8)).save(
        scans.root / "images" / "flat.png"
    )
    Image.fromarray(square().astype(np.uint8)).save(scans.root / "labels" / "flat.png")


def unpacked(scans):
    packed = scans.image(1).read_bytes()
    scans.image(1).write_bytes(gzip.decompress(packed))


def brats(complete):
    def spoil(scans):
        for path in sorted(scans.root.rglob("*.nii.gz")):
            path.unlink()
        scans.undescribe()
        for number in range(2):
            folder = scans.root / f"b{number}"
            for kind in ("flair", "t1", "t1ce", "t2"):
                save(image_of(hash(kind) % 97 + number), folder / f"b{number}_{kind}.nii.gz")
            save(mask_of(number), folder / f"b{number}_seg.nii.gz")
        complete(scans.root / "b1")

    return spoil


def xrays(*names):
    """In place of the scans: chest X-rays, the first one with a mask."""

    def spoil(scans):
        pictures(scans, [square()])
        folder = scans.root / "images"
        (folder / "p0.png").rename(folder / "CHNCXR_0001_0.png")
        (scans.root / "labels" / "p0.png").rename(scans.root / "labels" / "CHNCXR_0001_0_mask.png")
        for number, name in enumerate(names):
            (folder / name).parent.mkdir(exist_ok=True)
            noise = np.random.default_rng(number + 5).integers(0, 256, (40, 30), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name)
        if len(names) > 1:
            Image.fromarray(square().astype(np.uint8)).save(scans.root / "labels" / "CHNCXR_0002_0_mask.png")

    return spoil


def fragmented(scans):
    mask = np.zeros(SHAPE, np.uint8)
    mask[::2, ::2, ::2] = 1
    mask[6, 6, 6] = 2
    scans.set_label(1, mask)


def hounsfield(scans):
    for number in range(3):
        scans.set_image(number, image_of(number) - 4000)


def rare(scans):
    """Twelve cases, label 2 in one of them."""
    for number in range(12):
        save(image_of(number), scans.root / "images" / f"c{number}.nii.gz")
        save((mask_of(number) > 0).astype(np.uint8), scans.root / "labels" / f"c{number}.nii.gz")
    scans.set_label(3, mask_of(3))
    scans.undescribe()


def stray(scans):
    """Twelve cases of labels 0 and 1, a 7 in one of them."""
    rare(scans)
    scans.set_label(3, (mask_of(3) > 0).astype(np.uint8) * 7)


TRIGGERS = {
    "CASES_UNPAIRED": xrays("CHNCXR_0002_0.png", "more/CHNCXR_0002_0.png"),
    "CHANNELS_DUPLICATE": undescribed(image(np.stack([image_of(1)] * 2, axis=-1))),
    "CHANNELS_MISSING": brats(lambda folder: (folder / "b1_t2.nii.gz").unlink()),
    "CHANNELS_MIXED": undescribed(image(np.stack([image_of(1), image_of(9)], axis=-1))),
    "CT_NOT_HU": image(image_of(1) - image_of(1).min(), modality={"0": "CT"}),
    "DIMENSIONS_MIXED": volume_and_picture,
    "DUPLICATE_IMAGE": copied,
    "DUPLICATE_LABEL": label(mask_of(2)),
    "DUPLICATE_LEAK": with_split(copied),
    "FEW_GREY_LEVELS": image(
        np.arange(24 * 24 * 24).reshape(24, 24, 24).astype(np.int16) % 9,
        mask=np.kron(mask_of(1)[:12, :12, :12], np.ones((2, 2, 2), np.uint8)),
    ),
    "GRID_NEAR": label(affine=moved(0.05)),
    "GRID_REINDEXED": label(mask_of(1)[:, ::-1], affine=flipped(1)),
    "IMAGE_CONSTANT": image(np.full(SHAPE, 7, np.int16)),
    "IMAGE_MISSING": undescribed(lambda scans: scans.image(2).unlink()),
    "INTENSITY_OUTLIER": image(image_of(1).astype(np.float32) * 1000),
    "LABEL_ABSENT": label(labels=("background", "lower", "upper", "side")),
    "LABEL_FRAGMENTED": fragmented,
    "LABEL_IGNORE_255": undescribed(label(np.where(image_of(1) > 2300, 255, mask_of(1)).astype(np.uint8))),
    "LABEL_MAPPED": lambda scans: pictures(scans, [square(255), square(255)[::-1]]),
    "LABEL_NEARLY_WHOLE": label(mask_of(1) * np.float32(0.9999)),
    "LABEL_ONE_HOT": label(one_hot(mask_of(1))),
    "LABEL_OUTSIDE_BODY": ground,
    "LABEL_RARE": rare,
    "LABEL_STRAY": stray,
    "LABEL_THRESHOLDED": lambda scans: pictures(scans, [square(255, 90), square(255, 90)[::-1]]),
    "LABEL_TOO_MANY": of_many_labels,
    "LOOKS_LIKE_MASK": undescribed(lambda scans: save(mask_of(1), scans.root / "images" / "c1_lungs.nii.gz")),
    "MASK_EMPTY": label(np.zeros(SHAPE, np.uint8)),
    "MASK_FULL": label(np.ones(SHAPE, np.uint8)),
    "MASK_MISSING": undescribed(lambda scans: scans.label(2).unlink()),
    "MODALITIES_MIXED": hounsfield,
    "NEAR_DUPLICATE_IMAGE": nearly_copied,
    "NEAR_DUPLICATE_LEAK": with_split(nearly_copied),
    "NONFINITE_VOXELS": image(with_nan(image_of(1))),
    "ORIENTATION_MIXED": image(affine=np.diag([1.5, 1.25, 2, 1.0])),
    "SHAPE_MISMATCH": label(mask_of(1)[:, :, :9]),
    "SHAPE_OUTLIER": image(np.tile(image_of(1), (1, 1, 5)), mask=np.tile(mask_of(1), (1, 1, 5))),
    "SPACING_NOMINAL": image(affine=np.diag([1, 1, 1, 1.0])),
    "SPACING_OUTLIER": image(affine=AFFINE @ np.diag([1, 1, 4, 1.0])),
    "SPLIT_LEAK": with_split(of_one_patient),
    "SPLIT_PARTIAL": with_split(lambda scans: None, train=["c0", "c1", "c9"], validation=["c2", "c3", "c4"]),
    "SUFFIX_WRONG": unpacked,
    "UNLABELLED": xrays("CHNCXR_0002_0.png"),
}
