"""The data sets of the five studies in miniature: a few small cases, laid out as their publishers do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from medseg.data.dicom.synthetic_ct import write_ct_series

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


def disc(shape: tuple[int, ...], seed: int, radius: float = 0.25) -> np.ndarray:
    """A ball about the middle of an array, moved a little by the seed."""
    shift = np.random.default_rng(seed).uniform(-0.08, 0.08, len(shape))
    places = np.indices(shape).reshape(len(shape), -1).T / np.array(shape) - 0.5 - shift
    return (np.linalg.norm(places, axis=1) < radius).reshape(shape)


def noisy(mask: np.ndarray, seed: int, low: float = 40, high: float = 200) -> np.ndarray:
    """An image that is bright where the mask is, in noise."""
    noise = np.random.default_rng(seed).normal(0, 8, mask.shape)
    return np.clip(np.where(mask, high, low) + noise, 0, 255)


def save_picture(array: np.ndarray, path: Path) -> None:
    """Rows of an array as a grey or colour picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def save_volume(array: np.ndarray, path: Path) -> None:
    """With nibabel, not with the code under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def montgomery(root: Path) -> None:
    """X-rays with the masks of the left and of the right lung in two folders."""
    for number in range(10):
        left = np.zeros((48, 56), bool)
        left[10:40, 8:22] = True
        right = left[:, ::-1]
        name = f"MCUCXR_{number:04d}_0.png"
        save_picture(noisy(left | right, number), root / "CXR_png" / name)
        save_picture(255 * left, root / "ManualMask" / "leftMask" / name)
        save_picture(255 * right, root / "ManualMask" / "rightMask" / name)
        (root / "ClinicalReadings").mkdir(exist_ok=True)
        (root / "ClinicalReadings" / name.replace("png", "txt")).write_text("normal\n")


def brats2020(root: Path) -> None:
    """Case folders of four modalities and a mask with the values 0, 1, 2 and 4."""
    for number in range(1, 9):
        case = f"BraTS20_Training_{number:03d}"
        whole, core = disc((24, 24, 12), number, 0.4), disc((24, 24, 12), number, 0.2)
        labels = (2 * whole).astype(np.uint8)
        labels[core] = 4
        labels[core & disc((24, 24, 12), number, 0.1)] = 1
        for modality, structure in (("flair", whole), ("t1", core), ("t1ce", core), ("t2", whole)):
            image = noisy(structure, number).astype(np.float32)
            save_volume(image, root / case / f"{case}_{modality}.nii.gz")
        save_volume(labels, root / case / f"{case}_seg.nii.gz")
    (root / "survival_info.csv").write_text("Brats20ID,Age,Survival_days,Extent_of_Resection\n")


def isbi(root: Path) -> None:
    """Two TIFFs of many pages; 255 is a cell and 0 its membrane."""
    root.mkdir(parents=True, exist_ok=True)
    cells = [disc((64, 64), number, 0.35) for number in range(8)]
    images = [Image.fromarray(noisy(cell, n).astype(np.uint8)) for n, cell in enumerate(cells)]
    labels = [Image.fromarray((255 * cell).astype(np.uint8)) for cell in cells]
    images[0].save(root / "train-volume.tif", save_all=True, append_images=images[1:])
    labels[0].save(root / "train-labels.tif", save_all=True, append_images=labels[1:])
    images[0].save(root / "test-volume.tif", save_all=True, append_images=images[1:])


def lung_ct_slices(root: Path) -> None:
    """Slices as TIFF, masks of the same names beside."""
    for number in range(8):
        mask = disc((40, 40), number)
        name = f"ID_{number:04d}_Z_0142.tif"
        save_picture(noisy(mask, number), root / "2d_images" / name)
        save_picture(255 * mask, root / "2d_masks" / name)


def lung_ct_dicom(root: Path) -> None:
    """A folder of DICOM slices for each patient, and its mask as an array of slices in an NPZ."""
    for number in range(6):
        mask = disc((40, 36, 5), number, 0.3)
        mask[..., 0] = False
        hounsfield = np.where(mask, -850, 40).astype(np.int16)
        write_ct_series(hounsfield, np.diag([-2.0, -2.0, 3.0, 1.0]), root / f"case{number}", seed_uid=str(number))
        np.savez_compressed(root / f"case{number}.npz", mask.transpose(2, 1, 0).astype(np.uint8))


def kaggle_lgg(root: Path) -> None:
    """Slices of a patient in a folder, each beside its mask; some hold no tumour."""
    for number in range(10):
        patient = f"TCGA_CS_{4940 + number}_19960909"
        for slice_number in (1, 2):
            mask = disc((48, 48), number) if slice_number == 2 else np.zeros((48, 48), bool)
            name = f"{patient}_{slice_number}"
            folder = root / "kaggle_3m" / patient
            save_picture(np.stack([noisy(mask, number)] * 3, axis=-1), folder / f"{name}.tif")
            save_picture(255 * mask, folder / f"{name}_mask.tif")
    (root / "kaggle_3m" / "README.md").write_text("LGG\n")
    (root / "kaggle_3m" / "data.csv").write_text("Patient,death01\n")


def cvc_clinic(root: Path) -> None:
    """Colour frames and their masks as TIFF, by number."""
    for number in range(1, 11):
        mask = disc((48, 64), number)
        save_picture(np.stack([noisy(mask, number)] * 3, axis=-1), root / "Original" / f"{number}.tif")
        save_picture(255 * mask, root / "Ground Truth" / f"{number}.tif")


def acdc(root: Path) -> None:
    """A cine of four axes for each patient, and masks of its two frames that Info.cfg names."""
    for number in range(1, 8):
        patient = f"patient{number:03d}"
        folder = root / "training" / patient
        frames = []
        for frame, size in ((1, 1.0), (2, 0.9), (3, 0.8)):
            labels = np.zeros((40, 44, 4), np.uint8)
            for value, radius in ((1, 0.4), (2, 0.3), (3, 0.2)):
                labels[disc((40, 44, 4), number, size * radius)] = value
            frames.append((80 * labels + np.random.default_rng(frame).normal(0, 5, labels.shape)).astype(np.float32))
            if frame in (1, 3):
                save_volume(labels, folder / f"{patient}_frame{frame:02d}_gt.nii.gz")
        save_volume(np.stack(frames, axis=-1), folder / f"{patient}_4d.nii.gz")
        (folder / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: DCM\nHeight: 170.0\nNbFrame: 3\nWeight: 70.0\n")


STUDIES: dict[str, Callable[[Path], None]] = {
    "lung2d_xray_segmentation": montgomery,
    "brats2020_mr_segmentation": brats2020,
    "isbi_em_segmentation": isbi,
    "lung_ct_slices_segmentation": lung_ct_slices,
    "lung_ct_dicom_segmentation": lung_ct_dicom,
    "lgg_mr_segmentation": kaggle_lgg,
    "polyp_endoscopy_segmentation": cvc_clinic,
    "acdc_mr_segmentation": acdc,
}
"""Each study's bundle, and what writes its data set."""
