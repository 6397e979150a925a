"""A bundle's inferer as the windows of an exported bundle."""

from __future__ import annotations

from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer

from medseg.inference.exported.unsupported import need
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.steps.description import PADDING_MODES
from medseg.inference.windows import WindowPlan

LARGE = 10_000
"""Voxels of an image that is larger than any window."""


def window_plan(inferer: Inferer, spatial_dims: int) -> WindowPlan:
    """The windows of a bundle's inferer.

    Raises:
        BundleError: EXPORT_UNSUPPORTED.
    """
    name = type(inferer).__name__
    need(isinstance(inferer, SlidingWindowInferer), name, "only sliding windows of a fixed size can be exported")
    window = SlidingWindow.of(inferer)  # type: ignore[arg-type]
    axes = spatial_dims + isinstance(inferer, SliceInferer)
    windows = window.windows((LARGE,) * axes)
    need(LARGE not in windows.roi, name, f"a window of the image's size (roi_size {window.roi_size})")
    need(window.padding_mode in PADDING_MODES, name, f"padding_mode {window.padding_mode}")
    sigma = window.sigma_scale
    along = [float(sigma)] * axes if isinstance(sigma, float | int) else [float(each) for each in sigma]
    need(len(along) == axes, name, f"sigma_scale {sigma} for {axes} axes")
    need(window.slice_axis is None or window.slice_axis >= 0, name, f"spatial_dim {window.slice_axis}")
    return WindowPlan(
        roi=windows.roi,
        overlap=tuple(float(each) for each in windows.overlap),
        batch=max(1, int(window.sw_batch_size)),
        mode=str(window.mode.value),
        sigma_scale=tuple(along),
        padding_mode=window.padding_mode,
        cval=float(window.cval),
        slice_axis=window.slice_axis,
    )
