"""What can be wrong or odd with a data set, with what is scored, and what `medseg check` looks for itself."""

from __future__ import annotations

from medseg.codes import Code

# A row is two lines: what the code means, what to do. One argument on each line would make the table twice as long.
# fmt: off
DATASETS: dict[str, Code] = {
    "CASES_MISSING": Code("nnU-Net: fewer whole cases than `numTraining` says, or images without a mask",
        "complete imagesTr and labelsTr or correct dataset.json"),
    "CASES_UNPAIRED": Code("images without a mask, masks without an image, half a "
        "mask, two files for one; all are named",
        "complete or remove the files, or describe the cases in a dataset.json"),
    "CASE_ID_INVALID": Code("an id that could not be a file's name, or would lead out of the folder",
        "give the case a plain id"),
    "CASE_TWICE": Code("two cases have the same id, or two files of one folder the same name but for their ending",
        "name each case once; of two such files remove one"),
    "CHANNELS_DIFFER": Code("the data set has other channels than the bundle takes; both lists are named",
        "use data with these channels, or name them as the bundle's card does"),
    "CHANNELS_MISSING": Code("cases without a modality that others have, or with fewer or more files `_0000`, "
        "`_0001` … than the bundle takes",
        "add the missing channels, or move the case away"),
    "DESCRIPTION_INVALID": Code("a `dataset.json` that cannot be read or lacks what it needs, or a table without the "
        "columns `image` and `label`, without rows or with an empty cell",
        "correct what the message names"),
    "FILES_MISSING": Code("files that a description names are not there", "copy them or correct the paths"),
    "FRAMES_UNKNOWN": Code("4D files of ACDC without `ED` and `ES` in an `Info.cfg`; all such patients are named",
        "put Info.cfg with the lines 'ED: N' and 'ES: N' beside each, or the frames as files of their own"),
    "LABELS_DIFFER": Code("the masks of the data set, in the layout named, hold other values than the bundle reads "
        "([make a bundle](bundles.md#make-a-bundle))",
        "use a bundle made for these values, or make one: see docs/reference/bundles.md"),
    "LIST_INVALID": Code("a list of images that is empty, unreadable or names missing files",
        "one path on each line, absolute or from the list's folder"),
    "MASK_FOLDERS_SEVERAL": Code("two folders could hold the reference masks, such as `masks` and `references`",
        "move the others away, or describe the cases in a dataset.json or dataset.csv"),
    "MASK_MISSING": Code("an image without a mask; in `evaluate`, a reference without "
        "one: an error with `--missing error`, else a note",
        "add the mask, or move the image away"),
    "NOT_FOUND": Code("the input or data set is not there", "check the path"),
    "NO_CASES": Code("nothing at that path is an image or a known layout",
        "arrange or describe the files as the message says"),
    "PAGES_DIFFER": Code("an image stack and its mask stack have different numbers of pages",
        "export both stacks again"),
    "PAIRS_UNUSABLE": Code("several images or masks cannot be trained on; each is "
        "named with its own code, before anything is trained",
        "mend or move away these cases; medseg check lists them all, and --fix OUT mends what is certain"),
    "PART_EMPTY": Code("no case is left for training, validation or test; a training refused so leaves no folder",
        "add cases, or change fractions"),
    "PATH_OUTSIDE": Code("a description names a file outside its folder", "move the file in and name it from there"),
    "SPLIT_INVALID": Code("a `split.json` that cannot be read, names a case twice or was changed",
        "correct it; leave fingerprint out of one made by hand"),
    "SPLIT_LEAK": Code("cases of one patient are in different parts of the split",
        "keep each patient's cases in one part"),
    "SPLIT_PARTIAL": Code("the split names some of the data set's cases but not all",
        "complete the data set, or draw a new split"),
    "SPLIT_SIZES": Code("sizes of the parts that make no sense or do not add up",
        "fractions that add up to 1, 8:1:1, or numbers of patients"),
    "STACK_UNREADABLE": Code("a TIFF stack cannot be opened", "export the stack again"),
}

CHECK: dict[str, Code] = {
    "CHANNELS_DUPLICATE": Code("two channels of an image are the same; a grey picture "
        "saved as colours is no such case",
        "see whether a channel was exported twice in place of another", "warning"),
    "CHANNELS_MIXED": Code("cases have different numbers of channels", "give all cases the same channels"),
    "CT_NOT_HU": Code("an image of a data set or bundle for CT has no value below 0",
        "export with rescale slope and intercept applied, or subtract the offset", "warning"),
    "DIMENSIONS_MIXED": Code("pictures and volumes in one data set",
        "keep pictures and volumes in data sets of their own"),
    "DUPLICATE_IMAGE": Code("two cases have the same voxels",
        "keep one, or give both the same group so that no split divides them", "warning"),
    "DUPLICATE_LABEL": Code("two different images have the same mask, which is neither empty nor full",
        "see whether a mask was saved under the wrong name", "warning"),
    "DUPLICATE_LEAK": Code("two cases with the same voxels are in different parts of the split",
        "put both into one part of the split, or remove one"),
    "FEW_GREY_LEVELS": Code("an image of 4096 voxels or more has fewer than 32 different values",
        "look for the original, whose values were not re-quantised", "info"),
    "IMAGE_CONSTANT": Code("every voxel has the same value",
        "look at the image; remove the case if it shows nothing", "warning"),
    "IMAGE_MISSING": Code("a mask without an image", "add the image, or move the mask away"),
    "INTENSITY_OUTLIER": Code("the values span 20 times more or less than those of the median case",
        "see whether it was scaled in another way than the others", "warning"),
    "LABEL_ABSENT": Code("a label that the description or the bundle names is in no mask; in `evaluate`, no "
        "reference holds a value that `--map` names",
        "add cases that show it, or leave the name out", "warning"),
    "LABEL_FRAGMENTED": Code("a label is in far more pieces than in other cases: 10 times the median, and 20 more",
        "look for specks; a median or the largest component removes them", "info"),
    "LABEL_IGNORE_255": Code("255 stands beside other labels, and nothing names it",
        "name it: a label 'ignore' where voxels have no reference, else the structure that it is", "warning"),
    "LABEL_NEARLY_WHOLE": Code("labels stored as floats up to 0.001 from whole numbers, such as 0.9999",
        "round it; --fix does", is_fixable=True),
    "LABEL_ONE_HOT": Code("one channel for each label, exactly one of them 1 in every voxel",
        "store one label per voxel; --fix does", is_fixable=True),
    "LABEL_OUTSIDE_BODY": Code("more than a tenth of a label lies on the constant ground around the body",
        "see whether the mask belongs to this image and lies the same way", "warning"),
    "LABEL_RARE": Code("a label is in at most 2, or a twentieth, of ten or more masks",
        "spread these cases over the parts of the split, or expect no score for it", "info"),
    "LABEL_STRAY": Code("a label that nothing names is in at most 2 of ten or more masks, and a gap lies between it "
        "and the others, as of 7 among 0 and 1",
        "see whether the value was mistyped", "warning"),
    "LOOKS_LIKE_MASK": Code("an image without a mask holds few whole values from 0, or such in patches, on the grid "
        "of another image: a label map under a name that no layout knows; of pictures the name must say so too",
        "name it like its image with _mask, _seg, _gt or _label added, "
        "or list image and label in a dataset.csv", "warning"),
    "MASK_EMPTY": Code("a mask without a label: one that was drawn (`info` where more than a fifth of the masks are "
        "empty), or one that was predicted",
        "see whether the structure is absent or was never drawn", "warning"),
    "MASK_FULL": Code("a mask without background", "see whether the mask was inverted or never drawn", "warning"),
    "MODALITIES_MIXED": Code("some volumes reach down to air in Hounsfield units, others do not",
        "see whether one bundle should learn both", "warning"),
    "NEAR_DUPLICATE_IMAGE": Code("small copies of two patients' images correlate by more than 0.999",
        "look at both; give them the same group where they show the same", "warning"),
    "NEAR_DUPLICATE_LEAK": Code("two patients' images whose small copies correlate by "
        "more than 0.999 are in different parts of the split",
        "look at both; put them into one part of the split where they show the same"),
    "ORIENTATION_MIXED": Code("volumes are stored with axes in different directions",
        "nothing for bundles that turn images to one orientation, as medseg's own do", "info"),
    "SHAPE_OUTLIER": Code("an image is 4 times larger or smaller than the median along an axis of the body",
        "see whether it was cropped, or is another kind of scan", "info"),
    "SPACING_NOMINAL": Code("spacings that may mean nothing: pictures, 1×1×1 mm, one "
        "spacing for all though shapes differ",
        "do not trust lengths and volumes in mm and ml unless you know the spacing", "info"),
    "SPACING_OUTLIER": Code("a spacing 3 times the median's, or a third, along an axis of the body",
        "see whether its spacing is true", "warning"),
    "SUFFIX_WRONG": Code("a `.nii` that is packed, or a `.nii.gz` that is not; it is read all the same",
        "rename it; --fix does", "info", is_fixable=True),
    "UNLABELLED": Code("images that their publisher drew no mask for",
        "nothing; they are left out of trainings", "info"),
}

EVALUATE: dict[str, Code] = {
    "EXAMPLES_NONE": Code("a figure of examples without a case that has an image, a mask and a reference",
        "give the folder of the images that were segmented"),
    "HELD_OUT_MISSING": Code("a test case of the split has no reference here", "complete the references", "warning"),
    "INPUT_EMPTY": Code("a folder of masks or references holds no images", "give the folder that holds the masks"),
    "INPUT_MISSING": Code("there is no such file or folder", "correct the path"),
    "PAIRED_BY_NAME": Code("a mask was found for its reference by file name alone; the folders differ",
        "see that no other scan has that name", "warning"),
    "PAIRS_NONE": Code("no mask has the name of a reference, or of a case where the references are a data set",
        "name each mask like its reference or case"),
    "PAIR_AMBIGUOUS": Code("several masks could belong to one reference, or one mask to several",
        "keep one reference and one mask per case in the two folders"),
    "PLANE_NONE": Code("a volume too thin to draw", "give at least two voxels along two axes"),
    "RECORD_UNREADABLE": Code("a file that medseg writes is damaged, lacks something or was written by something "
        "else: scores (`cases.csv`), a log of epochs or batches, a file of a run",
        "restore it; scores can be made again: delete the scores_… folder of the run, or evaluate once more"),
    "REFERENCE_MISSING": Code("a mask has no reference and was not scored", "see whether its name is right", "warning"),
    "SAME_FOLDER": Code("`evaluate` was given the same folder or file for the masks and the references",
        "give the folder of masks first, then that of the references"),
}
