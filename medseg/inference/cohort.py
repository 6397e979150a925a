"""Many cases: one model, one mask each, and a record of what happened to every one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from medseg.bundle.load import open_bundle
from medseg.data.case import split_slice
from medseg.data.cases import Case, open_images
from medseg.data.channels import are_modalities
from medseg.data.images import write
from medseg.errors import ImageError, MedsegError, OutputError, coded_cause, first_line
from medseg.files import held
from medseg.inference.options import DICOM_SEG, PredictOptions
from medseg.inference.predict import Prediction, Predictor, mask_volumes_ml
from medseg.inference.recording import check_labels, earlier_masks, heading, write_record
from medseg.inference.segmentations import SUFFIX as SEG_SUFFIX
from medseg.inference.segmentations import check_dicom, source_of, write_dicom_seg

KEPT_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")
"""Formats in which a mask is written as its image came; any other image gets a NIfTI or PNG mask."""

_UNFORESEEN = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True)
class CaseRecord:
    """What happened to one case.

    Args:
        case: Its id.
        images: The files read.
        mask: The file written, relative to the output folder; None where it failed.
        seconds: From reading to the verified mask.
        volumes_ml: Each structure's volume.
        notes: What is odd about the image without being wrong, with codes.
        error: Code, case, problem and remedy where it failed.
    """

    case: str
    images: tuple[str, ...]
    mask: str | None = None
    seconds: float = 0.0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    notes: str = ""
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class Predictions:
    """The outcome of a run over many cases.

    Args:
        output: The folder of masks.
        records: One per case, in order.
        seconds: Of the whole run, loading the model included.
    """

    output: Path
    records: tuple[CaseRecord, ...]
    seconds: float

    @property
    def failed(self) -> tuple[CaseRecord, ...]:
        """The cases without a mask."""
        return tuple(record for record in self.records if record.error)

    @property
    def exit_code(self) -> int:
        """0 where every case has its mask, 1 otherwise."""
        return 1 if self.failed else 0


def predict(
    bundle: str | Path,
    images: str | Path,
    output: str | Path,
    *,
    options: PredictOptions | None = None,
    allow: Collection[str] = (),
    on_case: Callable[[CaseRecord, int], None] | None = None,
    on_window: Callable[[str, int], None] | None = None,
) -> Predictions:
    """Segment every case found, with one mask each on the image's own grid.

    A case that fails is recorded and the others go on. `predictions.json` beside the
    masks says what was run on what, and how each case went. Masks of earlier runs into
    the same folder that are not made again stay, and so do their records.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        images: An image file, a folder (any mix of formats, nested), a DICOM case, or a list (.txt, .csv).
        output: Folder for the masks; made where missing.
        options: Device, precision, mirroring, overlap, probabilities, DICOM series, memory.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE.
        on_case: Called after each case with its record and the number of cases in all.
        on_window: Called with a case's id and the number of its windows done so far.

    Raises:
        InputError: There is no image.
        BundleError: The bundle is refused.
        OutputError: The output folder cannot be written, lies where it would overwrite an image, or
            holds masks of other labels that would stay.
        LockedError: Another run is writing to the output folder.
    """
    started = time.perf_counter()
    options = options or PredictOptions()
    opened = open_bundle(bundle, allow)
    predictor = Predictor(opened, options, on_window)
    cases = open_images(images, opened.channels if are_modalities(opened.channels) else len(opened.channels))
    cases = _of_series(cases, options.series)
    folder = Path(output)
    _check_outside(folder, Path(images))
    if options.mask_format == DICOM_SEG:
        check_dicom(cases)
    targets = _targets(cases, folder, options.mask_format)
    head, records = heading(opened, options), list[CaseRecord]()
    with held(folder):
        earlier = earlier_masks(folder)
        check_labels(earlier, folder, {_below(target, folder) for target in targets.values()}, head["labels"])
        for case in cases:
            records.append(_one(predictor, case, targets[case.id], folder))
            earlier.pop(_below(targets[case.id], folder), None)
            write_record(folder, head, [asdict(record) for record in records], list(earlier.values()))
            if on_case:
                on_case(records[-1], len(cases))
    return Predictions(folder, tuple(records), time.perf_counter() - started)


def _of_series(cases: Sequence[Case], series: str | None) -> tuple[Case, ...]:
    """The cases, DICOM folders narrowed to the series of that number or end of UID."""
    if series is None:
        return tuple(cases)
    named = ((f"{image}#series={series}" if Path(image).is_dir() else image for image in case.images) for case in cases)
    return tuple(replace(case, images=tuple(images)) for case, images in zip(cases, named, strict=True))


def _one(predictor: Predictor, case: Case, target: Path, folder: Path) -> CaseRecord:
    started = time.perf_counter()
    try:
        # What an earlier run made must not stand for a case that now fails, nor beside a mask of other weights.
        for stale in (target, _beside(target, "probabilities")):
            stale.unlink(missing_ok=True)
        prediction = _written(predictor, case, target)
    except MedsegError as error:
        return CaseRecord(case.id, case.images, error=error.to_record())
    except _UNFORESEEN as error:
        return CaseRecord(case.id, case.images, error=_coded(error, case).to_record())
    return CaseRecord(
        case.id,
        case.images,
        mask=_below(target, folder),
        seconds=round(time.perf_counter() - started, 3),
        volumes_ml=dict(mask_volumes_ml(prediction, predictor.bundle.labels)),
        notes=prediction.notes,
    )


def _written(predictor: Predictor, case: Case, target: Path) -> Prediction:
    """Segment a case and write its mask in the format asked for; returns what was written."""
    options = predictor.options
    # A series that no DICOM SEG can refer to is found before the work.
    source = source_of(case) if options.mask_format == DICOM_SEG else None
    prediction = predictor(case)
    target.parent.mkdir(parents=True, exist_ok=True)
    if prediction.probabilities is not None:
        write(prediction.probabilities, prediction.affine, _beside(target, "probabilities"), has_channels=True)
    if source is None:
        write(prediction.labels, prediction.affine, target)
        return prediction
    notes = write_dicom_seg(prediction, source, target, predictor.bundle, options.seg_type)
    return replace(prediction, notes="; ".join(text for text in (prediction.notes, notes) if text))


def _coded(error: Exception, case: Case) -> MedsegError:
    unknown = ImageError("CASE_FAILED", case.id, first_line(error), "see whether the bundle fits the image")
    return coded_cause(error) or unknown


def _beside(target: Path, what: str) -> Path:
    """The file beside a mask that holds its class probabilities, channel first."""
    ending = ".npz" if target.suffix.lower() in {".png", ".tif", ".tiff"} else ".nii.gz"
    return target.with_name(f"{target.name.removesuffix(_suffix(target) or SEG_SUFFIX)}_{what}{ending}")


def _targets(cases: Sequence[Case], folder: Path, mask_format: str) -> dict[str, Path]:
    """Each case's mask file: the case's id with the ending of the mask's format.

    Raises:
        OutputError: Two cases would share a file, or a mask would overwrite a file that is none of ours.
    """
    images = {Path(image).resolve() for case in cases for image in case.images}
    earlier = earlier_masks(folder)
    targets: dict[str, Path] = {}
    taken: set[str] = set()
    for case in cases:
        target = folder / f"{case.id}{SEG_SUFFIX if mask_format == DICOM_SEG else _mask_suffix(case)}"
        names = {str(target).lower(), str(_beside(target, "probabilities")).lower()}
        if target.resolve() in images or names & taken:
            raise OutputError(
                "OUTPUT_COLLISION", target, "would overwrite an image or another mask", "give another output folder"
            )
        for file in (target, _beside(target, "probabilities")):
            if file.exists() and _below(target, folder) not in earlier:
                raise OutputError(
                    "OUTPUT_EXISTS", file, "was not made by an earlier prediction", "give another output folder"
                )
        taken |= names
        targets[case.id] = target
    return targets


def _below(target: Path, folder: Path) -> str:
    return target.relative_to(folder).as_posix()


def _check_outside(folder: Path, images: Path) -> None:
    if images.is_dir() and images.resolve() in folder.resolve().parents:
        raise OutputError(
            "OUTPUT_INSIDE_INPUT",
            folder,
            f"lies inside {images}, where its masks would be the next run's images",
            "give a folder beside the images",
        )


def _mask_suffix(case: Case) -> str:
    file, part = split_slice(case.images[0])
    first = Path(file)
    if _suffix(first):
        return ".png" if part and not part.startswith("#t") else _suffix(first)
    return ".png" if first.suffix.lower() in {".jpg", ".jpeg", ".bmp"} else ".nii.gz"


def _suffix(path: Path) -> str:
    return next((suffix for suffix in KEPT_SUFFIXES if path.name.lower().endswith(suffix)), "")
