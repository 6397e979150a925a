"""How a prediction is run: device, precision, windows, DICOM series, memory, and the format of its masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle.locator import is_margin
from medseg.data.case import SERIES_NAME
from medseg.data.dicom.write_seg import SEG_TYPES
from medseg.errors import UsageError, check_known

if TYPE_CHECKING:
    import torch

BACKENDS = ("auto", "torch", "compile", "openvino", "onnx", "tensorrt")
DEVICES = ("auto", "cpu", "cuda")
DICOM_SEG = "dicom-seg"
MASK_FORMATS = ("image", DICOM_SEG)
NO_LOCATOR = "none"
"""In place of a locator: none, also where the bundle names one."""


@dataclass(frozen=True)
class PredictOptions:
    """How a network is run over a case.

    Args:
        device: One of DEVICES; auto takes CUDA where there is one.
        amp: Run the network in 16-bit floats (float16 on CUDA, bfloat16 on the CPU).
        tta: Average over the mirrorings that the bundle was trained with.
        overlap: Share of a window that its neighbour covers again; None leaves the bundle's.
        probabilities: Give the class probabilities on the image's grid as well.
        backend: What runs the network, one of BACKENDS.
        series: Which DICOM series of a folder that holds several: its number, or an ending of its UID; ``:N`` behind
            it names stack N in a series.
        max_ram: Bytes that one image, or what the network makes of it, may take; None leaves what is free.
        mask_format: One of MASK_FORMATS: the format of the image, or DICOM SEG for DICOM series.
        seg_type: How a DICOM SEG holds the mask, one of ``medseg.data.dicom.write_seg.SEG_TYPES``.
        crop: Run the box around what is neither air nor padding only, where the network finds nothing in these.
        locator: The bundle that finds where to look, by its folder or name; NO_LOCATOR: none; None leaves the bundle's.
        locator_margin_mm: Kept around what the locator finds; None leaves the bundle's.
        threads: Of a pass on the CPU; None leaves PyTorch's, or what ``auto`` finds by timing.
    """

    device: str = "auto"
    amp: bool = False
    tta: bool = False
    overlap: float | None = None
    probabilities: bool = False
    backend: str = "auto"
    series: str | None = None
    max_ram: int | None = None
    mask_format: str = "image"
    seg_type: str = "binary"
    crop: bool = False
    locator: str | Path | None = None
    locator_margin_mm: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        check_backend(self.backend)
        if self.device not in DEVICES:
            raise UsageError("DEVICE_UNKNOWN", self.device, "not a device", f"choose one of {', '.join(DEVICES)}")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError("OVERLAP_INVALID", self.overlap, "not from 0 to below 1", "give a share such as 0.5")
        if self.series is not None and not SERIES_NAME.fullmatch(self.series):
            remedy = "give digits and dots, and :N for a stack"
            raise UsageError("SERIES_INVALID", self.series, "no number and no end of a UID", remedy)
        if self.max_ram is not None and self.max_ram < 1:
            raise UsageError("SIZE_INVALID", self.max_ram, "no number of bytes above 0", "give a size such as 4G")
        if self.crop and self.probabilities:
            problem = "what is not run has no probabilities"
            raise UsageError("SETTING_INVALID", "crop", problem, "leave --crop or --probabilities out")
        if self.locator_margin_mm is not None and not is_margin(self.locator_margin_mm):
            problem = f"{self.locator_margin_mm} are no millimetres from 0"
            raise UsageError("SETTING_INVALID", "locator_margin_mm", problem, "give millimetres such as 20")
        if self.threads is not None and self.threads < 1:
            raise UsageError("SETTING_INVALID", "threads", f"{self.threads} is no number from 1", "give 1 or more")
        if self.locator is not None:
            object.__setattr__(self, "locator", str(self.locator))  # As a record can hold it.
        check_known("SETTING_INVALID", [self.mask_format], MASK_FORMATS, "mask_format")
        check_known("SETTING_INVALID", [self.seg_type], SEG_TYPES, "seg_type")
        if self.seg_type != SEG_TYPES[0] and self.mask_format != DICOM_SEG:
            problem = f"{self.seg_type} is a kind of {DICOM_SEG}"
            raise UsageError("SETTING_INVALID", "seg_type", problem, f"add --format {DICOM_SEG}")

    @property
    def torch_device(self) -> torch.device:
        """The device that ``device`` stands for on this machine.

        Raises:
            UsageError: ``DEVICE_MISSING``.
        """
        import torch

        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            raise UsageError("DEVICE_MISSING", "cuda", "PyTorch finds no CUDA device", "use --device cpu")
        return torch.device("cuda" if has_cuda and self.device != "cpu" else "cpu")


def check_backend(name: str) -> None:
    """Refuse a name that is none of BACKENDS.

    Raises:
        UsageError: BACKEND_UNKNOWN.
    """
    if name not in BACKENDS:
        raise UsageError("BACKEND_UNKNOWN", name, "no such backend", f"choose one of {', '.join(BACKENDS)}")
