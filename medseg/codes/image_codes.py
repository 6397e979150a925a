"""What can be wrong or odd with an image or a mask: its file, its grid, its values, and DICOM."""

from __future__ import annotations

from medseg.codes import Code

IMAGES: dict[str, Code] = {
    "ALPHA_IGNORED": Code(
        "a picture's transparency was left out", "nothing, unless the mask was drawn in the transparency", "info"
    ),
    "AXES_AMBIGUOUS": Code(
        "an NPZ mask without an affine whose sizes fit the image in more than one order of axes",
        "store it as (slices, rows, columns) where that differs, or with the image's 'affine' in the archive",
    ),
    "BITPIX_DIFFERS": Code(
        "a NIfTI header's two statements of the voxel type differ; the type was used",
        "write the file again with a correct tool",
        "info",
    ),
    "CHANNEL_COUNT": Code(
        "the image has another number of channels than the bundle takes",
        "give one image per channel, in the order of the bundle's card",
    ),
    "COLOUR_CONVERTED": Code("colours other than RGB were converted to it", "see whether the colours matter", "info"),
    "EXIF_ORIENTATION": Code(
        "a camera's orientation tag was ignored", "see that image and mask lie the same way", "warning"
    ),
    "FORMAT_UNFIT": Code("the format cannot hold this array", "write .nii.gz, or .npz, which holds any"),
    "FORMAT_UNKNOWN": Code(
        "the ending names none of the [formats](formats.md)", "use one of the formats that the message lists"
    ),
    "FORMS_DIFFER": Code(
        "qform and sform, or spacing and sform, differ; the sform was used",
        "see which of qform and sform is true",
        "warning",
    ),
    "FRAME_NOT_FOUND": Code(
        "`FILE#tN` names a time frame that is not there, or the file is no 4D NIfTI",
        "name a frame that a 4D NIfTI file holds",
    ),
    "GRID_MISMATCH": Code(
        "two images do not hold the same voxels",
        "resample one onto the other's grid, or export it from the right image",
    ),
    "GRID_NEAR": Code(
        "mask and image, or mask and reference, lie 0.001 to 0.1 voxel apart at their corners; taken for the same grid",
        "nothing; --fix sets the mask's header to the image's",
        "warning",
        is_fixable=True,
    ),
    "GRID_RECTIFIED": Code(
        "a sheared volume was resampled onto perpendicular axes, in Python or by `check --straighten`",
        "nothing",
        "info",
    ),
    "GRID_REINDEXED": Code(
        "the mask's axes run another way than its image's or reference's; the same voxels, so it is turned exactly",
        "nothing; --fix stores the mask on the image's grid",
        "info",
        is_fixable=True,
    ),
    "HUGE_VALUES": Code(
        "a value overflows float32 when squared", "see whether it is a marker for 'no signal'", "warning"
    ),
    "IMAGE_CORRUPT": Code("compressed data or a checksum is damaged", "copy the file again from its source"),
    "IMAGE_DATA_FILE": Code(
        "the data file of a header is missing, elsewhere or not one file",
        "keep header and data in one folder, or save as one file",
    ),
    "IMAGE_DTYPE": Code(
        "voxels that are no real numbers, or stored in a way that is not supported",
        "convert it to an integer or float image",
    ),
    "IMAGE_EMPTY": Code("an axis of the image has no voxels after preprocessing", "see how the image was cropped"),
    "IMAGE_GRID": Code(
        "spacing or orientation that places no volume in the world", "export the image again with its geometry"
    ),
    "IMAGE_HEADER": Code(
        "a header that is damaged or contradicts itself", "write the image again with a tool that sets a correct header"
    ),
    "IMAGE_NOT_2D": Code(
        "a volume for a bundle that takes pictures; found before a training, and by `check --bundle`",
        "name one slice as FILE#N, counted from 0",
    ),
    "IMAGE_NOT_3D": Code(
        "too few or too many axes for an image or for the bundle; found before a training, and by `check --bundle`",
        "give whole 3D volumes; split what has more axes",
    ),
    "IMAGE_NOT_FOUND": Code("there is no such file or folder", "check the path"),
    "IMAGE_PAGES_DIFFER": Code("the pages of a TIFF differ in size or kind", "save each page as its own file"),
    "IMAGE_PAIR": Code(
        "NIfTI or Analyze in two files, whose orientation tools disagree on", "convert it to one .nii.gz"
    ),
    "IMAGE_SCALING": Code(
        "a slope or intercept that is NaN or Inf", "set a slope of 1 and an intercept of 0, or the true ones"
    ),
    "IMAGE_TOO_LARGE": Code(
        "a small file that would fill the memory", "check the header; to accept it, store the image uncompressed"
    ),
    "IMAGE_TRUNCATED": Code("the file ends before its voxels do", "copy the file again from its source"),
    "IMAGE_UNREADABLE": Code("the system does not let the file be read", "check its permissions and the memory"),
    "INTEGER_BEYOND_FLOAT32": Code(
        "whole numbers above 2^24 are not exact in float32", "nothing for images; renumber such labels", "info"
    ),
    "LABEL_CHANNELS": Code("a mask with several channels", "store one label per voxel, not one channel per label"),
    "LABEL_MAPPED": Code(
        "a mask of 0 and 255 is read as 0 and 1, or, in `evaluate`, a value as another, as `--map` asked",
        "nothing; --fix stores 255 as 1",
        "info",
        is_fixable=True,
    ),
    "LABEL_NEGATIVE": Code("a mask with negative values", "give background 0 and every structure a positive label"),
    "LABEL_NOT_INTEGER": Code(
        "a mask with values between whole numbers, NaN, or beyond 64 bits",
        "store whole numbers; resample masks with nearest neighbour",
    ),
    "LABEL_OVERLAP": Code(
        "two parts of one mask give a voxel different labels", "give each voxel one label in all parts"
    ),
    "LABEL_THRESHOLDED": Code(
        "a mask with grey edges is cut at half of 255 (the share of grey voxels is told), or a fractional DICOM SEG "
        "at half of its largest value",
        "save masks without lossy compression, resized by nearest neighbour; --fix stores them cut at half of 255",
        "warning",
        is_fixable=True,
    ),
    "LABEL_TOO_MANY": Code(
        "a mask with more than 256 different values, or a picture with more than 64; one with more than 1024 is no "
        "mask and is refused",
        "see whether this is the mask, and not an image",
        "warning",
    ),
    "LABEL_UNEXPECTED": Code(
        "a mask holds a value that the bundle or data set does not have, or, in `evaluate`, one that has no name",
        "correct the mask, or name these labels in the data set",
    ),
    "MEMORY_BUDGET": Code(
        "the image, or what the bundle makes of it, takes more memory than `--max-ram`, or than is free, however it "
        "is run",
        "crop the image, or raise --max-ram to what the message says where there is more memory",
    ),
    "NONFINITE_VOXELS": Code(
        "an image holds NaN or Inf: noted in reading, refused in predicting and training",
        "replace them, or export the image again",
    ),
    "NO_ORIENTATION": Code(
        "the header does not say how the patient lies; the format's default was taken",
        "check left and right",
        "warning",
    ),
    "NPZ_ARRAYS": Code("an NPZ file with no image or several", "keep one array, and its grid as affine"),
    "QFORM_INVALID": Code("the qform is no rotation; the sform was used", "nothing; the sform is used", "info"),
    "SHAPE_MISMATCH": Code(
        "image and mask, or two arrays, have different numbers of voxels",
        "export the mask from the image that it was drawn on",
    ),
    "SHEARED_GRID": Code(
        "the voxel axes are not perpendicular",
        "see that your other tools keep the shear, or resample: --fix OUT --straighten",
        "warning",
    ),
    "SLICES_DIFFER": Code(
        "an NPZ mask has another number of slices than its image", "export image and mask of the same slices"
    ),
    "SLICE_NOT_FOUND": Code("`FILE#N` names a slice that is not there", "name one that it holds, counted from 0"),
    "TRAILING_DATA": Code("bytes follow the voxels", "nothing, unless the file was damaged", "info"),
    "UNITS_NOT_MM": Code("the header's unit is not mm; lengths were taken as mm", "check the spacing", "warning"),
}

DICOM: dict[str, Code] = {
    "CT_SERIES": Code(
        "a volume that cannot be written as a CT series", "give an integer volume on a perpendicular grid"
    ),
    "DICOM_DIRECTORY": Code(
        "a DICOMDIR that points outside its folder", "delete DICOMDIR after checking where it came from"
    ),
    "DICOM_DUPLICATE_FILE": Code("the same slice was stored twice; one was left out", "nothing", "info"),
    "DICOM_DUPLICATE_SLICE": Code(
        "two slices at one position, or two contents under one identifier",
        "keep one phase, echo or reconstruction per folder",
    ),
    "DICOM_FRAMES_OF_REFERENCE": Code(
        "the slices of a series name several coordinate systems",
        "see that all slices come from one examination",
        "warning",
    ),
    "DICOM_GEOMETRY": Code(
        "position, orientation, spacing or size is missing or makes no sense",
        "export the series again with its geometry",
    ),
    "DICOM_IRREGULAR_SLICES": Code(
        "slices at uneven distances, or off the line", "resample to even slices, or export another reconstruction"
    ),
    "DICOM_JUNK_SKIPPED": Code(
        "files that are no DICOM lie among the slices", "nothing, unless one should be a slice", "info"
    ),
    "DICOM_LOCALIZER": Code(
        "overview images for planning the scan lie among the slices of a series",
        "move the localizers out of the folder",
    ),
    "DICOM_LOCALIZER_ONLY": Code("the series is an overview for planning a scan", "leave it out", "warning"),
    "DICOM_LOSSY": Code(
        "the pixels have been compressed with loss; told by `medseg check` only", "nothing, if this is expected", "info"
    ),
    "DICOM_MISSING_SLICE": Code("a gap of whole slices", "export the whole series again"),
    "DICOM_MIXED_GEOMETRY": Code(
        "slices of different size, spacing or orientation in one series",
        "move localizers and other images out of the folder",
    ),
    "DICOM_MIXED_SERIES": Code(
        "slices at different places differ in what one volume has throughout: echo, kernel, time, or acquisition "
        "back and forth",
        "see that the series holds one phase, echo or reconstruction",
        "warning",
    ),
    "DICOM_MIXED_VALUES": Code(
        "slices whose values do not mean the same: another modality, unit or sense of dark and bright",
        "keep one kind of image per folder",
    ),
    "DICOM_MONOCHROME1": Code(
        "high values are dark; they were left as they are",
        "see whether the bundle was trained on such images",
        "warning",
    ),
    "DICOM_NON_IMAGE_SKIPPED": Code("segmentations, doses or reports were left out", "nothing", "info"),
    "DICOM_NO_DECODER": Code(
        "compressed pixels that nothing installed can decode",
        "install pylibjpeg and its plug-ins, or export uncompressed",
    ),
    "DICOM_NO_IMAGE": Code("the folder or file holds no DICOM image", "give the folder that holds the slices"),
    "DICOM_NO_POSITION": Code("a single picture without a position, read as 2D", "nothing for X-rays", "info"),
    "DICOM_NO_RESCALE": Code(
        "a CT without rescale slope and intercept", "see whether the values are Hounsfield units", "warning"
    ),
    "DICOM_NO_THICKNESS": Code(
        "a single slice of unknown thickness; 1 mm is assumed", "do not trust volumes in ml", "warning"
    ),
    "DICOM_NUMBERS_SKIP": Code(
        "the numbers of the slices go up in steps of two or more",
        "compare the number of slices with that of the scanner",
        "warning",
    ),
    "DICOM_PIXELS": Code(
        "pixels are missing, damaged or not as the header says", "export the series again, uncompressed"
    ),
    "DICOM_PREAMBLE": Code(
        "a file begins like a program", "find out where the file came from; do not run it", "warning"
    ),
    "DICOM_RESCALE": Code(
        "values are mapped by a table, or by a slope of 0 or NaN", "export with rescale slope and intercept"
    ),
    "DICOM_RESCALE_PER_SLICE": Code(
        "slices have different rescale slopes or intercepts, which are applied; told by `medseg check` only",
        "nothing, if this is expected",
        "info",
    ),
    "DICOM_SERIES_NOT_FOUND": Code(
        "no series of the folder, or more than one, has that number or end of UID; or the series has no stack of "
        "that number",
        "give a number, or six or more characters of the end of a UID, that one series has; behind a colon, the "
        "number of a stack that the message lists",
    ),
    "DICOM_SEVERAL_PATIENTS": Code(
        "the files of a folder belong to several patients", "give each patient a folder", "warning"
    ),
    "DICOM_SEVERAL_PHASES": Code(
        "several images at each place: phases, echoes, b-values, stacks; what tells them apart is named, and the "
        "stacks are listed with their numbers",
        "pick one: --series SUFFIX:N, or FOLDER#series=SUFFIX:N; or keep one of them per folder",
    ),
    "DICOM_SEVERAL_SERIES": Code(
        "more than one image series in the folder; they are listed",
        "name one: --series SUFFIX, or FOLDER#series=SUFFIX",
    ),
    "DICOM_STEP_DIFFERS": Code(
        "the slices lie farther apart, or closer, than the header says; the positions were used",
        "compare the number of slices with that of the scanner",
        "warning",
    ),
    "DICOM_UNREADABLE": Code(
        "a file is no DICOM or is damaged; among slices, a slice is lost",
        "copy or export it again; remove it if it is no slice",
    ),
    "GANTRY_TILT": Code(
        "slices are shifted as by a tilted gantry; kept as shear",
        "see that your other tools keep the shear, or resample: --fix OUT --straighten",
        "warning",
    ),
}

DICOM_MASKS: dict[str, Code] = {
    "CONTOUR_GAPS": Code(
        "a structure has no contour on slices between its first and last; they stay empty",
        "see whether slices were left out in drawing",
        "warning",
    ),
    "CONTOUR_INVALID": Code(
        "a contour of an RTSTRUCT is open, holds NaN, has another number of points than it says, or there are over 5 "
        "million points; or its structures have no proper numbers",
        "export the structure set again",
    ),
    "CONTOUR_OFF_SLICE": Code(
        "a contour lies between the slices of its series, or across them",
        "export it with the series that it was drawn on",
    ),
    "CONTOUR_OVERLAP": Code(
        "contours of one structure on one slice partly overlap, so that neither is a hole in the other; structure, "
        "slice and voxels are named",
        "join them, or draw one inside the other, and export the structure set again",
    ),
    "FRAME_OF_REFERENCE_DIFFERS": Code(
        "positions of a DICOM SEG or RTSTRUCT are of another coordinate system than those of its series",
        "export it with the series that it was drawn on",
    ),
    "SEGMENTS_AMBIGUOUS": Code(
        "a segment could be two labels, or segments without a known name could be labels that are not found ([which "
        "is which](../how-to/dicom.md#which-segment-is-which-label))",
        "give each segment the name or the code of one label",
    ),
    "SEGMENTS_BY_NUMBER": Code(
        "no segment has a name or code that is known; their numbers were taken as labels",
        "see whether the numbers mean the same",
        "warning",
    ),
    "SEGMENTS_LEFT_OUT": Code(
        "segments or structures that are none of the labels wanted count as background",
        "nothing, unless one of them should be a label",
        "warning",
    ),
    "SEGMENTS_MERGED": Code("several segments are one label, such as both lungs", "nothing", "warning"),
    "SEG_EMPTY": Code(
        "nothing was found; a DICOM SEG cannot be without a frame, so it holds empty ones", "nothing", "info"
    ),
    "SEG_INVALID": Code(
        "tables of a DICOM SEG contradict each other: its kind, its segments, or the frames that belong to them",
        "export the segmentation again",
    ),
    "SEG_SERIES_ABSENT": Code(
        "the series that a DICOM SEG was drawn on is not beside it; it spans the planes that it stores",
        "nothing, where its image is known; else put the series beside it",
        "warning",
    ),
    "SEG_SEVERAL": Code(
        "a folder given as a mask holds several segmentations or structure sets", "give the file that is meant"
    ),
    "SEG_SOURCE": Code(
        "the DICOM series lacks what a segmentation must refer to, such as FrameOfReferenceUID",
        "export the series again, or write NIfTI",
    ),
    "SEG_UNCODED": Code(
        "a bundle gives no codes for its labels; they were written under private ones",
        "add terminology to the bundle's metadata",
        "info",
    ),
    "SERIES_MISSING": Code(
        "the series that an RTSTRUCT was drawn on is not in or beside its folder; the message has its "
        "SeriesInstanceUID",
        "put that series into the folder of the structure set",
    ),
    "STRUCTURE_EMPTY": Code(
        "the contours of a structure enclose no voxel's centre", "see whether it was meant to be that small", "warning"
    ),
}
