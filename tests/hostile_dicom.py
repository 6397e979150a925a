"""DICOM folders good and bad, with the verdict that each deserves.

``ok`` is read, equal to the truth and without a note; ``warn`` is read with the note
named; ``reject`` is refused with the code named.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests import dicom_faults as faults
from tests import dicom_pixel_faults as pixels
from tests.dicom_folders import (
    RTSTRUCT_CLASS,
    SLICES,
    SR_CLASS,
    Build,
    beside,
    compressed,
    copied,
    directory,
    edited,
    enhanced,
    image_free,
    numbered,
    patched,
    single_file,
    twice,
    without,
)

LS, J2K = "jpeg_ls", "openjpeg"


@dataclass(frozen=True)
class HostileFolder:
    """One folder and what should come of it.

    Args:
        name: What is special about it.
        verdict: ``ok``, ``warn`` or ``reject``.
        code: Of the note or error.
        build: Fills the folder; gives the voxels where they are not ``TRUTH``.
        needs: Module without which it cannot be made.
    """

    name: str
    verdict: str
    code: str
    build: Build
    needs: str = ""

    def __str__(self) -> str:
        return self.name


def _ok(name: str, build: Build, needs: str = "") -> HostileFolder:
    return HostileFolder(name, "ok", "", build, needs)


def _warn(name: str, code: str, build: Build) -> HostileFolder:
    return HostileFolder(name, "warn", code, build)


def _reject(name: str, code: str, build: Build, needs: str = "") -> HostileFolder:
    return HostileFolder(name, "reject", code, build, needs)


GOOD = [
    _ok("control", edited()),
    _ok("numbers reversed", numbered("InstanceNumber", list(range(SLICES, 0, -1)))),
    _ok("numbers at random", numbered("InstanceNumber", [4, 1, 6, 2, 5, 3])),
    _ok("numbers all the same", edited(InstanceNumber=1)),
    _ok("numbers missing", edited(InstanceNumber=None)),
    _ok("acquisition numbers of their own", numbered("AcquisitionNumber", list(range(SLICES)))),
    _ok("acquisitions one after the other", numbered("AcquisitionNumber", [1, 1, 1, 2, 2, 2])),
    _ok("signed", pixels.stored_as("<i2", 16, offset=0)),
    _ok("8 bits", pixels.eight_bits),
    _ok("12 bits", pixels.stored_as("<u2", 12)),
    _ok("12 bits below rubbish", pixels.stored_as("<u2", 12, rubbish=0xA000)),
    _ok("12 signed bits below rubbish", pixels.stored_as("<i2", 12, rubbish=0x7000, offset=0)),
    _ok("12 bits at the upper end", pixels.stored_as("<u2", 12, shift=4)),
    _ok("12 bits in the middle", pixels.stored_as("<u2", 12, shift=2, rubbish=0x8001)),
    _ok("32 bits", pixels.stored_as("<u4", 32)),
    _ok("32 signed bits", pixels.stored_as("<i4", 32, offset=0)),
    _ok("sagittal", faults.turned([0, 1, 0, 0, 0, -1], [-1, 0, 0])),
    _ok("coronal", faults.turned([1, 0, 0, 0, 0, -1], [0, 1, 0])),
    _ok("rounded positions", numbered("ImagePositionPatient", [[0, 0, z] for z in (0, 3.003, 6, 9.002, 12, 15)])),
    _ok("single slice", faults.one_slice),
    _ok("rescaled per slice", faults.rescaled_per_slice),
    _ok("implicit", pixels.saved_as(ImplicitVRLittleEndian)),
    _ok("big endian", pixels.big_endian),
    _ok("deflated", pixels.deflated()),
    _ok("run lengths", compressed(RLELossless)),
    _ok("JPEG-LS", compressed(JPEGLSLossless), LS),
    _ok("JPEG 2000", compressed(JPEG2000Lossless), J2K),
    _ok("blank JPEG-LS", pixels.blank(JPEGLSLossless), LS),
    _ok("blank JPEG 2000", pixels.blank(JPEG2000Lossless), J2K),
    _ok("one slice compressed", pixels.one_compressed),
    _ok("multi-frame", single_file(enhanced)),
    _ok("multi-frame, frames at random", single_file(lambda: enhanced([3, 1, 5, 0, 4, 2]))),
    _ok("multi-frame, rescaled per frame", pixels.rescaled_per_frame),
    _ok("multi-frame, run lengths", pixels.lying_frames(SLICES, RLELossless)),
    _ok("multi-frame, JPEG-LS", pixels.lying_frames(SLICES, JPEGLSLossless), LS),
    _ok("multi-frame, JPEG 2000", pixels.lying_frames(SLICES, JPEG2000Lossless), J2K),
    _ok("folders below a DICOMDIR", faults.in_folders_below),
    _ok("odd names", faults.oddly_named),
    _ok("paths as identifiers", edited(PatientID="../../etc/passwd", SeriesDescription="/etc/x")),
    _ok("name of another character set", edited(SpecificCharacterSet="ISO_IR 192", PatientName=b"M\xfcller")),
    _ok("padding behind the pixels", faults.followed_by(b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0")),
    _ok("hidden files beside", beside("._s1.dcm", b"junk")),
]

ODD = [
    _warn("one file twice", "DICOM_DUPLICATE_FILE", copied),
    _warn("CT without rescaling", "DICOM_NO_RESCALE", faults.without_rescaling),
    _warn("high values dark", "DICOM_MONOCHROME1", edited(PhotometricInterpretation="MONOCHROME1")),
    _warn("text beside", "DICOM_JUNK_SKIPPED", beside("notes.txt", b"notes")),
    _warn("an empty file beside", "DICOM_JUNK_SKIPPED", beside("empty.dcm", b"")),
    _warn("a report beside", "DICOM_NON_IMAGE_SKIPPED", beside("sr.dcm", image_free(SR_CLASS, "SR"))),
    _warn("a padded report beside", "DICOM_NON_IMAGE_SKIPPED", faults.padded_report),
    _warn("structures beside", "DICOM_NON_IMAGE_SKIPPED", beside("rt.dcm", image_free(RTSTRUCT_CLASS, "RTSTRUCT"))),
    _warn("a segmentation beside", "DICOM_NON_IMAGE_SKIPPED", faults.with_segmentation),
    _warn("a program before the data", "DICOM_PREAMBLE", faults.preamble(b"\x7fELF")),
    _warn("a script before the data", "DICOM_PREAMBLE", faults.preamble(b"#!/bin/sh\n")),
    _warn("bytes behind the pixels", "TRAILING_DATA", faults.followed_by(b"rubbish")),
    _warn("gantry tilt", "GANTRY_TILT", faults.tilted),
    _warn("single slice without thickness", "DICOM_NO_THICKNESS", partial(faults.one_slice, SliceThickness=None)),
    _warn("X-ray", "DICOM_NO_POSITION", faults.x_ray),
    _warn("all localizers", "DICOM_LOCALIZER_ONLY", edited(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    _warn("another step stated", "DICOM_STEP_DIFFERS", edited(SpacingBetweenSlices=1.5)),
    _warn("every second number", "DICOM_NUMBERS_SKIP", numbered("InstanceNumber", list(range(1, 2 * SLICES, 2)))),
    _warn("echoes between each other", "DICOM_MIXED_SERIES", numbered("EchoTime", [10, 20] * 3)),
    _warn("acquisitions between each other", "DICOM_MIXED_SERIES", numbered("AcquisitionNumber", [1, 2] * 3)),
    _warn("two kernels", "DICOM_MIXED_SERIES", numbered("ConvolutionKernel", ["B30"] * 3 + ["B70"] * 3)),
    _warn("frames of reference", "DICOM_FRAMES_OF_REFERENCE", edited(2, FrameOfReferenceUID="1.2.3")),
]

SERIES_FAULTS = [
    _reject("a slice is missing", "DICOM_MISSING_SLICE", without(2)),
    _reject("two slices are missing", "DICOM_MISSING_SLICE", without(2, 3)),
    _reject("a slice twice", "DICOM_DUPLICATE_SLICE", edited(2, ImagePositionPatient=[-10, -20, -27])),
    _reject("every slice twice", "DICOM_DUPLICATE_SLICE", twice("ImageComments", "x")),
    _reject("two contents of one identifier", "DICOM_DUPLICATE_SLICE", faults.same_identifier),
    _reject("two acquisitions", "DICOM_SEVERAL_PHASES", twice("AcquisitionNumber", 2)),
    _reject("two times", "DICOM_SEVERAL_PHASES", twice("TemporalPositionIdentifier", 2, 1)),
    _reject("two echoes", "DICOM_SEVERAL_PHASES", twice("EchoTime", 30, 10)),
    _reject("two heart phases", "DICOM_SEVERAL_PHASES", twice("TriggerTime", 400, 0)),
    _reject("two b-values", "DICOM_SEVERAL_PHASES", twice("DiffusionBValue", 1000.0, 0.0)),
    _reject("magnitude and phase", "DICOM_SEVERAL_PHASES", twice("ImageType", ["ORIGINAL", "PRIMARY", "P"])),
    _reject("two series", "DICOM_SEVERAL_SERIES", faults.two_series),
    _reject("two patients", "DICOM_SEVERAL_SERIES", faults.many_patients),
    _reject("localizer", "DICOM_LOCALIZER", faults.with_localizer),
    _reject("one orientation differs", "DICOM_MIXED_GEOMETRY", edited(2, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])),
    _reject("one spacing differs", "DICOM_MIXED_GEOMETRY", edited(2, PixelSpacing=[2, 1.6])),
    _reject("one size differs", "DICOM_MIXED_GEOMETRY", edited(2, Rows=30, PixelData=bytes(2160))),
    _reject("one high values dark", "DICOM_MIXED_VALUES", edited(2, PhotometricInterpretation="MONOCHROME1")),
    _reject("one of another modality", "DICOM_MIXED_VALUES", edited(2, Modality="MR")),
    _reject("units differ", "DICOM_MIXED_VALUES", numbered("Units", ["BQML"] * 5 + ["GML"])),
    _reject("steps of 3 and 5 mm", "DICOM_IRREGULAR_SLICES", faults.steps(0, 3, 6, 11, 16, 21)),
    _reject("one slice off the line", "DICOM_IRREGULAR_SLICES", edited(2, ImagePositionPatient=[-5, -20, -24])),
    _reject("steps of 80 mm", "IMAGE_GRID", faults.steps(0, 80, 160, 240, 320, 400)),
    _reject("a lost slice", "DICOM_UNREADABLE", beside("s7.dcm", b"")),
    _reject("cut in the header", "IMAGE_TRUNCATED", faults.cut(0.1)),
    _reject("cut in the pixels", "IMAGE_TRUNCATED", faults.cut(0.98)),
    _reject("directory leads outside", "DICOM_DIRECTORY", beside("DICOMDIR", directory("..", "..", "secret"))),
    _reject("nothing", "DICOM_NO_IMAGE", faults.nothing),
    _reject("text only", "DICOM_NO_IMAGE", faults.only("notes.txt", b"notes")),
    _reject("report only", "DICOM_NO_IMAGE", faults.only("sr.dcm", image_free(SR_CLASS, "SR"))),
]

HEADER_FAULTS = [
    _reject("no position", "DICOM_GEOMETRY", edited(ImagePositionPatient=None)),
    _reject("no orientation", "DICOM_GEOMETRY", edited(ImageOrientationPatient=None)),
    _reject("no spacing", "DICOM_GEOMETRY", edited(PixelSpacing=None)),
    _reject("spacing 0", "DICOM_GEOMETRY", edited(PixelSpacing=[0, 0])),
    _reject("spacing below 0", "DICOM_GEOMETRY", edited(PixelSpacing=[-2, 1.5])),
    _reject("one spacing only", "DICOM_GEOMETRY", edited(PixelSpacing=2)),
    _reject("decimal comma", "DICOM_UNREADABLE", patched(1, b"2.0\\1.5 ", b"2.0\\1,5 ")),
    _reject("spacing NaN", "DICOM_GEOMETRY", patched(1, b"2.0\\1.5 ", b"2.0\\nan ")),
    _reject("position NaN", "DICOM_GEOMETRY", patched(1, b"-10.0\\-20", b"nan  \\-20")),
    _reject("position beyond the room", "DICOM_GEOMETRY", edited(ImagePositionPatient=[0, 0, 1e6])),
    _reject("orientation not of length 1", "DICOM_GEOMETRY", edited(ImageOrientationPatient=[2, 0, 0, 0, 1, 0])),
    _reject("orientation along one line", "DICOM_GEOMETRY", edited(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
    _reject("slope 0", "DICOM_RESCALE", edited(2, RescaleSlope=0)),
    _reject("intercept NaN", "DICOM_RESCALE", patched(2, b"-1024.0 ", b"NaN     ")),
    _reject("slope infinite", "DICOM_RESCALE", patched(2, b"S\x10DS\x04\x001.0 ", b"S\x10DS\x04\x00inf ")),
    _reject("values by a table", "DICOM_RESCALE", edited(ModalityLUTSequence=[])),
    _reject("unknown transfer syntax", "DICOM_NO_DECODER", pixels.other_syntax("1.2.840.10008.1.2.4.99")),
    _reject("private transfer syntax", "DICOM_NO_DECODER", pixels.other_syntax("1.2.3.4.5")),
    _reject("an element twice", "DICOM_UNREADABLE", faults.element_twice),
    _reject("nothing but zeros", "DICOM_UNREADABLE", faults.zeros_only),
]

PIXEL_FAULTS = [
    _reject("short pixels", "IMAGE_TRUNCATED", edited(2, PixelData=bytes(30))),
    _reject("no pixels", "DICOM_PIXELS", edited(2, PixelData=None)),
    _reject("no pixels at all", "DICOM_PIXELS", edited(PixelData=None)),
    _reject("length beyond the file", "IMAGE_TRUNCATED", pixels.lying_length),
    _reject("more rows than pixels", "IMAGE_TRUNCATED", edited(Rows=65535, Columns=65535)),
    _reject("fewer rows than pixels", "DICOM_PIXELS", edited(Rows=30)),
    _reject("fewer columns than pixels", "DICOM_PIXELS", edited(Columns=30)),
    _reject("no rows", "DICOM_GEOMETRY", edited(Rows=0)),
    _reject("12 bits allocated", "DICOM_PIXELS", edited(BitsAllocated=12)),
    _reject("1 bit allocated", "DICOM_PIXELS", edited(BitsAllocated=1, BitsStored=1, HighBit=0)),
    _reject("64 bits allocated", "DICOM_PIXELS", edited(BitsAllocated=64, BitsStored=64, HighBit=63)),
    _reject("no bits stored", "DICOM_PIXELS", edited(BitsStored=0)),
    _reject("more bits stored than allocated", "DICOM_PIXELS", edited(BitsStored=17, HighBit=16)),
    _reject("high bit outside", "DICOM_PIXELS", edited(HighBit=31)),
    _reject("neither signed nor unsigned", "DICOM_PIXELS", edited(PixelRepresentation=7)),
    _reject("two samples", "DICOM_PIXELS", edited(SamplesPerPixel=2)),
    _reject("colours of one sample", "DICOM_PIXELS", edited(PhotometricInterpretation="RGB")),
    _reject("unknown colours", "DICOM_PIXELS", edited(PhotometricInterpretation="MAGIC")),
    _reject("a hundred million frames", "DICOM_GEOMETRY", pixels.lying_frames(100_000_000)),
    _reject("more frames than pixels", "IMAGE_TRUNCATED", pixels.lying_frames(SLICES + 2)),
    _reject("fewer frames than pixels", "DICOM_PIXELS", pixels.lying_frames(SLICES - 2)),
    _reject("more frames than streams", "IMAGE_TRUNCATED", pixels.lying_frames(SLICES + 2, RLELossless)),
    _reject("fewer frames than streams", "DICOM_PIXELS", pixels.lying_frames(SLICES - 2, RLELossless)),
    _reject("a frame twice", "DICOM_DUPLICATE_SLICE", single_file(lambda: enhanced([0, 1, 1, 2]))),
    _reject("two stacks", "DICOM_SEVERAL_PHASES", pixels.frame_values("FrameContentSequence", "StackID", ["1", "2"])),
    _reject(
        "two times in one file",
        "DICOM_SEVERAL_PHASES",
        pixels.frame_values("FrameContentSequence", "TemporalPositionIndex", [1, 2]),
    ),
    _reject(
        "two echoes in one file",
        "DICOM_SEVERAL_PHASES",
        pixels.frame_values("MREchoSequence", "EffectiveEchoTime", [10.0, 20.0]),
    ),
    _reject("frames without position", "DICOM_GEOMETRY", single_file(enhanced, pixels.drop_positions)),
    _reject("run lengths cut", "DICOM_PIXELS", pixels.spoilt_stream(RLELossless, lambda stream: stream[:80])),
    _reject("run lengths without end", "DICOM_PIXELS", pixels.spoilt_stream(RLELossless, pixels.rle_bomb)),
    _reject("JPEG-LS cut", "IMAGE_TRUNCATED", pixels.spoilt_stream(JPEGLSLossless, lambda stream: stream[:-9]), LS),
    _reject("JPEG-LS larger", "DICOM_PIXELS", pixels.spoilt_stream(JPEGLSLossless, pixels.larger_ls), LS),
    _reject(
        "JPEG 2000 cut",
        "IMAGE_TRUNCATED",
        pixels.spoilt_stream(JPEG2000Lossless, lambda stream: stream[:-9]),
        J2K,
    ),
    _reject("JPEG 2000 larger", "DICOM_PIXELS", pixels.spoilt_stream(JPEG2000Lossless, pixels.larger_j2k), J2K),
    _reject("items cut", "IMAGE_TRUNCATED", pixels.cut_items),
]

BOMBS = [
    _reject("deflated zeros", "IMAGE_TOO_LARGE", pixels.deflated(tail=256 << 20, body=bytes(1 << 20))),
    _reject("zeros behind a deflated slice", "IMAGE_TOO_LARGE", pixels.deflated(tail=256 << 20)),
    _reject(
        "deflated header without end",
        "IMAGE_TOO_LARGE",
        pixels.deflated(tail=256 << 20, body=pixels.LONG_ELEMENT),
    ),
    _reject("a large claim in few deflated bytes", "IMAGE_TRUNCATED", pixels.deflated_claim),
]

FOLDERS = [*GOOD, *ODD, *SERIES_FAULTS, *HEADER_FAULTS, *PIXEL_FAULTS, *BOMBS]
