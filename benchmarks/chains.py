"""Whole chains from a folder of scans to masks: MONAI's stock transforms, and medseg."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import medseg

BUNDLE = "phantom_ct_segmentation"
SPACING_MM = (2.5, 2.5, 2.5)
WINDOW = (64, 64, 64)
LEAST_HU, MOST_HU = -1000, 600


def _stock(scans: Path, masks: Path) -> None:
    """The transforms as MONAI's bundles and tutorials write them, with its own readers and writers."""
    import torch
    from monai.data import DataLoader, Dataset, decollate_batch
    from monai.inferers import SlidingWindowInferer

    from medseg.bundle.load import open_bundle

    network = open_bundle(BUNDLE).network.eval()
    before, after = _stock_transforms(masks)
    loader = DataLoader(Dataset([{"image": str(path)} for path in sorted(scans.glob("*.nii.gz"))], before))
    inferer = SlidingWindowInferer(WINDOW, sw_batch_size=2, overlap=0.25, mode="gaussian")
    with torch.inference_mode():
        for batch in loader:
            batch["pred"] = inferer(batch["image"], network)
            for case in decollate_batch(batch):
                after(case)


def _stock_transforms(masks: Path) -> tuple[Callable, Callable]:
    """What MONAI does before and after the network; the second inverts the first on the probabilities."""
    from monai import transforms

    before = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="RAS"),
            transforms.Spacingd("image", pixdim=SPACING_MM, mode="bilinear"),
            transforms.ScaleIntensityRanged("image", LEAST_HU, MOST_HU, 0.0, 1.0, clip=True),
            transforms.EnsureTyped("image"),
        ]
    )
    after = transforms.Compose(
        [
            transforms.Activationsd("pred", softmax=True),
            transforms.Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
            transforms.AsDiscreted("pred", argmax=True),
            transforms.SaveImaged(
                "pred",
                output_dir=masks,
                output_postfix="",
                output_dtype="uint8",
                resample=False,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    return before, after


def _medseg(backend: str, crop: bool = False) -> Callable[[Path, Path], None]:
    def predict(scans: Path, masks: Path) -> None:
        from medseg.options import PredictOptions

        found = medseg.predict(BUNDLE, scans, masks, options=PredictOptions(backend=backend, crop=crop))
        notes = sorted({record.notes for record in found.records} - {""})
        if found.failed or any("BACKEND" in note for note in notes):
            raise RuntimeError(f"not what was to be measured: {found.failed or notes}")

    return predict


@dataclass(frozen=True)
class Chain:
    """One chain.

    Args:
        run: From a folder of scans to a folder of masks.
        modules: What it needs; imported before anything is measured.
    """

    run: Callable[[Path, Path], None]
    modules: tuple[str, ...]


_MONAI = ("torch", "monai.transforms", "monai.inferers", "monai.data", "monai.bundle", "nibabel")
_MEDSEG = (*_MONAI, "medseg.inference.predict")

CHAINS = {
    "MONAI, stock chain": Chain(_stock, (*_MONAI, "medseg.bundle.load")),
    "medseg, torch": Chain(_medseg("torch"), _MEDSEG),
    "medseg, openvino": Chain(_medseg("openvino"), (*_MEDSEG, "openvino")),
    "medseg, torch, cropped": Chain(_medseg("torch", crop=True), _MEDSEG),
}
