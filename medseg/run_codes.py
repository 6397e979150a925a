"""What is known of a code, and the rows of the table about settings, outputs, bundles and runs.

The rows about data are in medseg/data_codes.py; :data:`medseg.findings.CODES` is the whole table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The gravest first."""


@dataclass(frozen=True)
class Code:
    """What is known of a code before anything is found.

    Args:
        meaning: What was found, for the page of reference: it may hold Markdown.
        remedy: What the reader can do, as an imperative phrase without a full stop; plain text, for it is printed.
        severity: ``error`` where work is refused or would be misled, ``warning`` where a person should look,
            ``info`` where it is good to know. What is raised is an error, whatever stands here.
        is_fixable: Whether ``medseg check --fix`` can correct it for certain.
    """

    meaning: str
    remedy: str
    severity: Severity = "error"
    is_fixable: bool = False


# A row is two lines: what the code means, what to do. One argument on each line would make the table twice as long.
# fmt: off
SETTINGS: dict[str, Code] = {
    "DEVICE_MISSING": Code("`--device cuda` where PyTorch finds no GPU",
        "use --device cpu, or install PyTorch for your GPU"),
    "FORMAT_NEEDS_DICOM": Code("`--format dicom-seg` for images that are no DICOM series",
        "leave --format out, or give DICOM series only"),
    "NAME_UNKNOWN": Code("a name is not among those to choose from: of a device (`auto`, `cpu`, `cuda`), form, kind of "
        "export (`torchscript`, `onnx`, `openvino`), [loss](losses.md), metric (a column of `cases.csv`), "
        "[network](networks.md), optimiser (`adam`, `adamw`, `sgd`), part of a split (`train`, `validation`, `test`), "
        "runtime, schedule (`poly`, `constant`, `cosine`, `plateau`) or treatment of missing masks (`zero`, `skip`, "
        "`error`)",
        "use one of the names that the message lists"),
    "OPTION_NOT_OFFERED": Code("the bundle cannot do what an option asks: `--overlap` without windows in its "
        "inferer, `--tta` without training on mirrored images; an exported bundle also `--amp`, `--dry-run`, "
        "`--locator`, `--device cuda` or another `--backend`",
        "leave the option out, or use a bundle that offers it"),
    "PACKAGE_MISSING": Code("a setting, a network of MONAI or the runtime of an exported bundle needs a package that "
        "is not installed; of runtimes `pip install 'medseg[onnx]'` or `'medseg[openvino]'`",
        "install it as the message says, or leave the setting out"),
    "SETTING_INVALID": Code("a setting or option has a value that it cannot have, is not KEY=VALUE, or contradicts "
        "another: folds, `--overlap`, `--max-ram`, `--series`, an option of a network or loss, the size of a phantom",
        "correct it as the message says"),
    "SETTING_MISSING": Code("a setting is needed and not given: in a bundle's description, or beside another one, as "
        "`--fix` beside `check --straighten`, which resamples in a copy only",
        "add the settings that the message names"),
    "SETTING_UNKNOWN": Code("there is no such setting, or the [network](networks.md#options) or [loss](losses.md) "
        "has no such option; the one that may be meant is named",
        "correct its name"),
}

OUTPUTS: dict[str, Code] = {
    "OUTPUT_COLLISION": Code("a mask would overwrite an image or another mask", "give another output folder"),
    "OUTPUT_EXISTS": Code("a `dataset.json` with other content, a file where a mask should go that no earlier "
        "prediction made, or a mask of an earlier prediction with other labels that would stay; in `train`, a "
        "bundle, or a run that finished an epoch",
        "move it away, or choose another folder; a training goes on with --resume"),
    "OUTPUT_INSIDE_INPUT": Code("the folder for masks lies inside the folder of images",
        "give a folder beside the images"),
    "OUTPUT_LOCKED": Code("another run is writing to the same folder", "wait for it, or give another folder"),
    "OUTPUT_NOT_VERIFIED": Code("what was written reads back otherwise, or the format cannot hold the grid",
        "check the disk, or write .nii.gz"),
    "OUTPUT_RECORD_UNREADABLE": Code("the `predictions.json` in the output folder "
        "cannot be read, so it is not known which masks may be replaced",
        "give another output folder"),
    "OUTPUT_UNWRITABLE": Code("the folder cannot be written, or the disk is full",
        "free space, or choose another folder"),
}

BUNDLES: dict[str, Code] = {
    "BUNDLE_INCOMPLETE": Code("a file or a key that every bundle has is missing",
        "add what the message names, or use another bundle"),
    "BUNDLE_INCONSISTENT": Code("a bundle is trained with another network, other "
        "windows or other steps before the network than it predicts with",
        "make the two alike, or train the weights again"),
    "BUNDLE_LABELS": Code("a bundle's labels do not count from 0 without gaps, or its files disagree on them",
        "name the classes from 0 without gaps, alike everywhere"),
    "BUNDLE_METADATA": Code("`metadata.json` is not as MONAI's schema has it, or its changelog lacks its version",
        "correct what the message names"),
    "BUNDLE_NOT_FOUND": Code("no folder with `configs` inside, and no shipped bundle of that name",
        "give the bundle's folder or one of the names listed; the nearest comes first"),
    "BUNDLE_PROPERTY": Code("a configuration refers to a key that is not there, or "
        "gives a part of MONAI's workflow another name",
        "name it, or correct the reference"),
    "BUNDLE_RUNS_CODE": Code("the bundle holds an expression, or names a function of its own, that predicting would "
        "run; or it is exported to TorchScript, a program",
        "read its configuration; if you trust it, --allow BUNDLE_RUNS_CODE"),
    "BUNDLE_SHAPES": Code("the network, tried once, does not take or give what `network_data_format` says",
        "correct network_data_format in metadata.json, or the network"),
    "BUNDLE_UNREADABLE": Code("a configuration cannot be parsed, or one of its sections cannot be built",
        "correct the section that the message names"),
    "FORM_OF_WEIGHTS": Code("a bundle is trained without a form as another network "
        "than it predicts with, which is that of one of its forms",
        "train that form to get weights that fit", "info"),
    "PATCHES_DIFFER": Code("training patches are not as large as the windows of prediction",
        "see whether that is meant", "info"),
    "SCHEMA_UNKNOWN": Code("the metadata names a schema that medseg does not keep, so it was not checked",
        "hold the file against that schema yourself", "info"),
    "TRAIN_ABSENT": Code("the bundle cannot be trained", "nothing, for predicting", "info"),
    "TRAIN_NEEDS_MASK": Code("training prepares images by their reference masks, which prediction does not have",
        "give the bundle images that are prepared alike", "warning"),
    "WEIGHTS_ABSENT": Code("the bundle ships no weights", "train it before predicting", "info"),
    "WEIGHTS_CHANGED": Code("the weights' sha256 is not the one on record", "fetch them again, or correct the record"),
    "WEIGHTS_MISMATCH": Code("the weights are those of another network",
        "use the weights trained with this very network"),
    "WEIGHTS_MISSING": Code("there is no `models/model.pt`", "train the bundle, or fetch its weights"),
    "WEIGHTS_NONFINITE": Code("the weights hold NaN or Inf", "train or fetch them again"),
    "WEIGHTS_UNREADABLE": Code("the weights file is no table of tensors", "save a plain state dict, or fetch it again"),
}

PREDICT: dict[str, Code] = {
    "BACKEND_DISAGREES": Code("another runtime's logits differ from PyTorch's by more than a thousandth of the "
        "largest; PyTorch ran the network",
        "report it, with the bundle and what lies in ~/.cache/medseg/backends; empty that folder", "warning"),
    "BACKEND_FAILED": Code("another runtime could not take the network; PyTorch ran it",
        "nothing; --backend torch saves the attempt", "info"),
    "BACKEND_MISSING": Code("the runtime that was asked for is not installed; PyTorch ran the network",
        "install it, such as medseg[openvino]", "info"),
    "BOX_LOCATED": Code("a locator found where to look: which one, the box that was "
        "run, and how many windows of how many",
        "nothing", "info"),
    "CASE_FAILED": Code("a case stopped with an error that no other code describes; memory, for example",
        "see the text, and whether the bundle fits the image"),
    "IMAGE_ALL_AIR": Code("the image holds nothing but air or padding; its mask is empty",
        "see whether it is the right file", "warning"),
    "IMAGE_DIMENSIONS": Code("the image has another number of axes than the bundle's windows",
        "give images with as many axes as windows"),
    "LOCATOR_UNFIT": Code("a bundle's locator takes other channels or axes, or gives no labels on its own grid; or "
        "the bundle itself cannot be run over a box, for it has no windows or its postprocessing is its own",
        "name another locator, or --locator none"),
    "NOT_LOCATED": Code("the locator found nothing, or nothing where the bundle looks; all of the image was run",
        "see whether the scan shows what the locator was trained on", "warning"),
    "OUTPUT_NONFINITE": Code("the network gave NaN or Inf", "leave --amp out; look at the image"),
    "OUTPUT_NOT_LABELS": Code("the bundle's postprocessing does not end in labels",
        "end it with AsDiscreted(argmax=True)"),
    "OUTPUT_NOT_ONE_TENSOR": Code("the network gives several outputs", "use a network with one output"),
    "OUTPUT_OFF_GRID": Code("the bundle's mask does not lie on its image's grid",
        "add Invertd to the bundle's postprocessing"),
    "OUTPUT_RESIZED": Code("the network's output has another size than its input",
        "use a network that keeps its input's size"),
    "PREPROCESSING_NOT_LOADING": Code("a bundle's preprocessing does not begin by loading the image",
        "put LoadImaged first"),
    "SPILL_FAILED": Code("sums are to be kept in a file, and the folder for temporary files has no room",
        "make room, name another folder in TMPDIR, or raise --max-ram"),
    "SUMS_HALVED": Code("to keep to the memory allowed, logits were summed in 16 bits; "
        "labels may differ in a few voxels",
        "nothing; a larger --max-ram avoids it", "info"),
}

EXPORT: dict[str, Code] = {
    "EXPORT_ALTERED": Code("a file of an exported bundle is missing, or its sha256 is not the one on record",
        "copy the folder again, or export the bundle again"),
    "EXPORT_DISAGREES": Code("an exported network's logits, or the masks of a phantom, "
        "are not the bundle's; nothing was kept",
        "export to another runtime, or predict with the bundle itself; report it"),
    "EXPORT_FAILED": Code("the runtime cannot take the bundle's network", "export to another runtime"),
    "EXPORT_UNREADABLE": Code("an `exported.json` that medseg does not write so, or a "
        "network that its runtime cannot load",
        "export the bundle again"),
    "EXPORT_UNSUPPORTED": Code("a part of a bundle, which is named, has no exact counterpart in an exported one",
        "predict with the bundle itself, or build it without that part"),
}

TRAIN: dict[str, Code] = {
    "LEARNING_RATE_KEPT": Code("another optimiser was chosen, and no learning rate for "
        "it: the bundle's was chosen for its own",
        "give one with --set learning_rate=…", "info"),
    "LOSS_LABEL": Code("a loss was given labels outside its classes",
        "give whole numbers from 0, or one class per voxel"),
    "LOSS_NONFINITE": Code("the loss of a training step is NaN or infinite; the weights were not touched",
        "look for NaN in these images, lower learning_rate or set clip_norm, then --resume"),
    "LOSS_SHAPE": Code("logits and labels do not belong together",
        "give labels (B, 1, …) or one-hot (B, C, …) for (B, C, …)"),
    "NOTHING_TO_RESUME": Code("`--resume` where no run was begun, or where the "
        "checkpoint of a run with weights is gone",
        "leave --resume out; put models/checkpoint.pt back"),
    "NOT_VALIDATED": Code("no epoch of a training gave a validation metric, so no weights were kept",
        "lower val_interval, or look at the validation labels"),
    "RESUME_SETTING": Code("`--resume` with a setting that cannot change in a run under way, or after its "
        "`train.json` or `split.json` was changed",
        "start a new run for it, or undo the change"),
    "TRAINING_FAILED": Code("the training stopped; the message holds the cause and, "
        "within a step, the epoch and the cases",
        "correct that setting or case, then repeat; --resume goes on"),
}

COMPARE: dict[str, Code] = {
    "CASES_DIFFER": Code("rows of a comparison were scored on different cases, or the output folder holds other folds",
        "compare rows of one split; give another output folder"),
    "CLASSES_DIFFER": Code("rows of a comparison have different classes", "compare rows of one task"),
    "NOTHING_TO_COMPARE": Code("`compare` was given neither run folders nor a whole experiment, or both",
        "give run folders, or --bundle, --data and --output"),
    "PUBLISHED_INVALID": Code("a table of published numbers with other columns, an unknown metric or no number",
        "write the columns row,class,metric,value"),
    "ROW_DIFFERS": Code("the folder of a comparison's row holds a run with other settings",
        "give another output folder"),
    "RUN_NOT_FOUND": Code("a folder to compare holds no run", "give folders that train or compare made"),
    "RUN_UNSCORED": Code("a row of a comparison is left out, since a run of it has no "
        "scores; the command ends where this is so of every row",
        "give the command that the message names: it scores the run, or goes on with its training"),
    "SCORING_FAILED": Code("a case of a run could not be segmented or scored; the message holds that error's code",
        "see what the code means, then repeat"),
}
