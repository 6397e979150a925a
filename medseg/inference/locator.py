"""Where in an image to look: a coarse bundle finds it, so that a fine one runs over that box alone.

The coarse network sees the same image on its own grid. The box around whatever it finds, and a margin, is taken through
the world to the fine network's grid. Where it finds nothing, all of the image is run, and a note says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import Compose, LoadImaged
from numpy.typing import NDArray
from scipy import sparse

from medseg.bundle.load import Bundle, check_fits, find_locator, open_bundle, refuse_locator
from medseg.data.cases import Case
from medseg.data.images import VolumeReader
from medseg.errors import BundleError, UsageError
from medseg.findings import Finding, make_note
from medseg.geometry import Grid
from medseg.inference.boxes import Box, bound_labels, map_box, place_windows, widen
from medseg.inference.bundle_plan import fit_window, plan_within_memory, read_window
from medseg.inference.input_checks import check_channels
from medseg.inference.restore import AxisChange, Discretisation, LabelRestorer, fill
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.steps.monai_steps import check_resampled, measure_shapes, quicken, read_discretisation
from medseg.inference.windows import Windows
from medseg.options import NO_LOCATOR, PredictOptions


def open_locator(bundle: Bundle, options: PredictOptions, allow: Collection[str] = ()) -> Locator | None:
    """The locator that is to be used with a bundle: the one of the options, else the one that the bundle names.

    Args:
        bundle: The fine bundle, which segments.
        options: How to predict with it.
        allow: Error codes accepted knowingly; what holds for the bundle holds for its locator.

    Returns:
        None where there is none.

    Raises:
        BundleError: LOCATOR_UNFIT; or the locator is refused as any bundle is.
        UsageError: SETTING_INVALID: probabilities are asked for.
    """
    if options.locator == NO_LOCATOR or (options.locator is None and bundle.locator is None):
        return None
    if options.probabilities:
        problem = "what is not run has no probabilities"
        raise UsageError("SETTING_INVALID", "locator", problem, "leave --probabilities out, or give --locator none")
    if not isinstance(bundle.inferer, SlidingWindowInferer) or read_discretisation(bundle.postprocessing) is None:
        problem = "it runs without windows, or ends otherwise than in Activationsd, Invertd, AsDiscreted"
        raise BundleError("LOCATOR_UNFIT", bundle.root, problem, "give --locator none: all of the image has to be run")
    source = find_locator(bundle.root, str(bundle.locator)) if options.locator is None else options.locator
    locator = open_bundle(source, allow)
    check_fits(locator, bundle)
    margin_mm = bundle.locator_margin_mm if options.locator_margin_mm is None else options.locator_margin_mm
    return Locator(locator, options, margin_mm)


class Locator:
    """A coarse bundle's network, loaded once, that says where in one image after the other there is something.

    Args:
        bundle: An opened bundle; any of its labels above 0 counts. A locator that it names itself is left aside.
        options: How to predict with the fine bundle: its device, precision, backend and memory are taken.
        margin_mm: Kept around what is found.

    Raises:
        BundleError: LOCATOR_UNFIT.
    """

    def __init__(self, bundle: Bundle, options: PredictOptions, margin_mm: float) -> None:
        self.bundle, self.margin_mm = bundle, margin_mm
        self.options = replace(options, tta=False, overlap=None, crop=False, locator=None, locator_margin_mm=None)
        self._how = _check_readable(bundle)
        quicken(bundle.preprocessing)
        self.passes = NetworkRunner(bundle, self.options, lambda windows: None)

    @property
    def title(self) -> str:
        """Which it is, for the record."""
        return f"{self.bundle.name} {self.bundle.version} (weights {self.bundle.weights_sha256[:12]})"

    def prepare(self, case: Case, loaded: MetaTensor, loader: object) -> MetaTensor:
        """A case as the coarse network takes it.

        Args:
            case: The case; its files are read anew only where the two bundles load differently.
            loaded: The image as the fine bundle's first step left it; it stays as it is.
            loader: The fine bundle's first step.

        Raises:
            ImageError: The image is not what the bundle takes, or takes too much memory.
        """
        steps = self.bundle.preprocessing
        if _loads_alike(steps.transforms[0], loader):
            data = {"image": loaded.clone(), "case_id": case.id}
        else:
            images = case.images[0] if len(case.images) == 1 else list(case.images)
            data = steps({"image": images, "case_id": case.id}, end=1)
        check_resampled(data["image"], steps.transforms, case.id)
        image = steps(data, start=1)["image"]
        check_channels(image.shape[0], self.bundle.channels, case)
        return image

    def locate(
        self, coarse: MetaTensor, image: MetaTensor, windows: Windows, case_id: str
    ) -> tuple[Box | None, Finding]:
        """The box of the fine network's image that has to be run, and what the record says of it.

        Args:
            coarse: From ``prepare``.
            image: The same case as the fine network takes it.
            windows: The windows of that image.
            case_id: Named in errors.

        Returns:
            None in place of a box where all has to be run.

        Raises:
            ImageError: What the coarse network gives is refused, or memory does not suffice.
        """
        found = bound_labels(self.labels(coarse, case_id))
        target, source = (Grid(tuple(each.shape[1:]), np.asarray(each.affine, float)) for each in (image, coarse))
        box = map_box(target, found, source, self.margin_mm) if found else None
        if box is None:
            return None, make_note("NOT_LOCATED", f"{self.title} found nothing here, so it was left aside")
        box = widen(box, windows)
        run = len(place_windows(box, windows))
        if run >= len(windows):
            text = f"{self.title}: all {len(windows)} windows were run, for the box of what it found takes as many"
            return None, make_note("BOX_LOCATED", text)
        sizes = _join_sizes([part.stop - part.start for part in box])
        place = f"{sizes} of {_join_sizes(windows.image)} voxels from {_join_sizes([part.start for part in box])}"
        return box, make_note("BOX_LOCATED", f"{self.title}: {run} of {len(windows)} windows were run, {place}")

    def labels(self, coarse: MetaTensor, case_id: str) -> NDArray[np.integer]:
        """What the coarse network finds, (X, Y[, Z]) on its own grid.

        Args:
            coarse: From ``prepare``.
            case_id: Named in errors.

        Raises:
            ImageError: What the network gives is refused, or memory does not suffice.
        """
        plan = plan_within_memory(case_id, measure_shapes(coarse), self.bundle, self.options)
        window = fit_window(read_window(self.bundle, self.options), plan)
        stays = [AxisChange(axis, sparse.eye_array(n, format="csr")) for axis, n in enumerate(coarse.shape[1:])]
        restorer = LabelRestorer(stays, self._how, len(self.bundle.labels))
        with torch.inference_mode(), self.passes.precision():
            self.passes.choose(window, coarse, splits=True)
            slabs = window.slabs(coarse.to(self.passes.device), self.passes)
            fill(restorer, slabs, self.passes.finish, case_id)
        if not self._how.later:
            return restorer.labels
        pred = MetaTensor(torch.from_numpy(restorer.labels)[None], affine=coarse.affine)
        return np.asarray(Compose(list(self._how.later))({"pred": pred})["pred"][0])


def _check_readable(bundle: Bundle) -> Discretisation:
    """How a locator's scores become labels, where its own grid is enough to say."""
    how = read_discretisation(bundle.postprocessing)
    if how is None:
        raise refuse_locator(bundle, "its postprocessing is not Activationsd, Invertd, AsDiscreted and steps on labels")
    if not isinstance(bundle.inferer, SlidingWindowInferer | SimpleInferer):
        raise refuse_locator(bundle, f"its inferer is a {type(bundle.inferer).__name__}")
    return how


def _loads_alike(first: object, second: object) -> bool:
    """Whether both are medseg's reader with the same settings, so that one reading serves both."""
    if not isinstance(first, LoadImaged) or not isinstance(second, LoadImaged):
        return False
    loaders = (first._loader, second._loader)  # MONAI shows the settings nowhere else.
    is_own = all(how.readers and isinstance(how.readers[-1], VolumeReader) for how in loaders)
    dtypes, channels_first = {how.dtype for how in loaders}, {how.ensure_channel_first for how in loaders}
    return is_own and first.keys == second.keys and len(dtypes) == len(channels_first) == 1


def _join_sizes(numbers: Collection[int]) -> str:
    return "×".join(map(str, numbers))
