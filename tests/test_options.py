"""Options are stated once: what each may be, what is refused in which words, and nothing heavy imported for it."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path

import pytest

from medseg import options
from medseg.errors import UsageError
from medseg.evaluation.results import MISSING_POLICY
from medseg.options import (
    CheckOptions,
    EvaluateOptions,
    PredictOptions,
    TrainOptions,
    check_backend,
    check_max_ram,
    check_series,
    is_margin,
    option,
)

ALL = (CheckOptions, EvaluateOptions, PredictOptions, TrainOptions)


def test_nothing_is_imported_but_the_standard_library_and_the_errors():
    tree = ast.parse(Path(options.__file__).read_text(encoding="utf8"))
    named = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert {name.split(".")[0] for name in named} - set(sys.stdlib_module_names) == {"medseg"}
    assert [name for name in named if name.startswith("medseg")] == ["medseg.errors"]
    code = "import sys, medseg.options; print(sorted(name for name in sys.modules if name.startswith('medseg')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light = ["data_codes", "errors", "findings", "options", "run_codes"]
    assert ast.literal_eval(done.stdout) == ["medseg", *(f"medseg.{name}" for name in light)]


@pytest.mark.parametrize("holder", ALL)
def test_every_option_has_help_and_a_default_that_may_be_chosen(holder):
    typed = [item for item in fields(holder) if item.metadata]
    assert typed
    for item in typed:
        assert len(item.metadata["help"]) > 10, item.name
        choices = item.metadata.get("choices")
        assert choices is None or item.default in choices, item.name


@pytest.mark.parametrize("holder", ALL)
def test_options_cannot_be_changed_once_they_are_checked(holder):
    with pytest.raises(FrozenInstanceError):
        setattr(holder(), fields(holder)[0].name, "other")


def test_what_is_typed_says_what_argparse_is_told():
    number, word = option(None, "--threads N", "x").metadata, option("a", "--way", "x", choices=("a", "b")).metadata
    assert number == {"flag": "--threads", "metavar": "N", "type": int, "help": "x"}
    assert word == {"flag": "--way", "choices": ("a", "b"), "help": "x"}
    assert option(None, "--slices AXIS", "x", const=2).metadata["nargs"] == "?"
    assert option(False, "--amp", "x").metadata["action"] == "store_true"


def test_an_option_that_must_be_given_has_no_default():
    needed, made = option(options.MISSING, "--to", "x"), option(dict, "--set KEY=VALUE", "x")
    assert needed.metadata["required"]
    assert needed.default is options.MISSING and needed.default_factory is options.MISSING
    assert made.default_factory is dict


def test_the_record_of_a_prediction_keeps_its_keys():
    assert list(asdict(PredictOptions())) == [
        *("device", "amp", "tta", "overlap", "probabilities", "backend", "series", "max_ram", "mask_format"),
        *("seg_type", "crop", "locator", "locator_margin_mm", "threads"),
    ]


REFUSED = [
    ({"device": "tpu"}, "NAME_UNKNOWN: tpu: not a device; choose one of auto, cpu, cuda"),
    (
        {"backend": "tf"},
        "NAME_UNKNOWN: tf: no such backend; choose one of auto, torch, compile, openvino, onnx, tensorrt",
    ),
    ({"overlap": 1.0}, "SETTING_INVALID: 1.0: not from 0 to below 1; give a share such as 0.5"),
    ({"overlap": float("nan")}, "SETTING_INVALID: nan: not from 0 to below 1; give a share such as 0.5"),
    (
        {"series": "three"},
        "SETTING_INVALID: three: no number and no end of a UID; give digits and dots, and :N for a stack",
    ),
    ({"max_ram": 0}, "SETTING_INVALID: 0: no number of bytes above 0; give a size such as 4G"),
    (
        {"crop": True, "probabilities": True},
        "SETTING_INVALID: crop: what is not run has no probabilities; leave --crop or --probabilities out",
    ),
    (
        {"locator_margin_mm": -1},
        "SETTING_INVALID: locator_margin_mm: -1 are no millimetres from 0; give millimetres such as 20",
    ),
    ({"threads": 0}, "SETTING_INVALID: threads: 0 is no number from 1; give 1 or more"),
    ({"mask_format": "dicomseg"}, "SETTING_INVALID: dicomseg: is not known in mask_format; did you mean dicom-seg?"),
    ({"seg_type": "fraction"}, "SETTING_INVALID: fraction: is not known in seg_type; use one of binary, labelmap"),
    ({"seg_type": "labelmap"}, "SETTING_INVALID: seg_type: labelmap is a kind of dicom-seg; add --format dicom-seg"),
]


@pytest.mark.parametrize(("given", "told"), REFUSED, ids=["-".join(given) for given, _ in REFUSED])
def test_what_cannot_be_predicted_with_is_refused_in_these_words(given: Mapping[str, object], told):
    with pytest.raises(UsageError) as refused:
        PredictOptions(**given)
    assert str(refused.value) == told


@pytest.mark.parametrize("given", [{"overlap": 0}, {"threads": 1}, {"max_ram": 1}, {"locator_margin_mm": 0}])
def test_the_least_value_of_a_number_is_taken(given):
    assert asdict(PredictOptions(**given)).items() >= given.items()


def test_a_locator_is_kept_as_a_record_can_hold_it():
    assert PredictOptions(locator=Path("coarse")).locator == "coarse"
    assert PredictOptions().locator is None


@pytest.mark.parametrize("name", [None, "3", "1.2.840", ":2", "3:1"])
def test_a_number_or_the_end_of_a_uid_names_a_series(name):
    check_series(name)


@pytest.mark.parametrize("name", ["", "three", "3:", ":", "3:1:2", "٣"])
def test_what_names_no_series_is_refused(name):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        check_series(name)


def test_a_number_of_bytes_is_above_0():
    check_max_ram(None)
    check_max_ram(1)
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        check_max_ram(0)


@pytest.mark.parametrize("name", options.BACKENDS)
def test_every_backend_is_known(name):
    check_backend(name)


@pytest.mark.parametrize(
    ("value", "holds"),
    [(0, True), (10_000, True), (2.5, True), (10_001, False), (-1, False), (True, False), ("20", False), (None, False)],
)
def test_a_margin_is_a_number_of_millimetres(value, holds):
    assert is_margin(value) is holds


@pytest.mark.parametrize("epochs", [0, -1, True, 1.5, "3"])
@pytest.mark.parametrize("given", [lambda n: {"epochs": n}, lambda n: {"settings": {"epochs": n}}])
def test_a_number_of_epochs_is_a_whole_one_from_1(epochs, given):
    with pytest.raises(UsageError, match="SETTING_INVALID: epochs"):
        TrainOptions(**given(epochs))


def test_the_changes_of_a_training_are_told_by_configuration_key():
    assert TrainOptions().overrides == {}
    named = TrainOptions(epochs=3, network="unet", loss="dice", settings={"a::b": 1})
    assert named.overrides == {"epochs": 3, "network_name": "unet", "loss_name": "dice", "a::b": 1}


@pytest.mark.parametrize("given", [{"new_split": True}, {"form": "small"}, {"split": object()}])
def test_a_run_under_way_keeps_its_split_and_form(given):
    with pytest.raises(UsageError, match=f"RESUME_SETTING: {next(iter(given))}"):
        TrainOptions(resume=True, **given)


def test_a_split_is_given_or_drawn():
    with pytest.raises(UsageError, match="SETTING_INVALID: new_split"):
        TrainOptions(split=object(), new_split=True)


def test_only_a_copy_is_straightened():
    assert CheckOptions(fix="out", straighten=True).straighten
    with pytest.raises(UsageError, match="SETTING_MISSING: straighten"):
        CheckOptions(straighten=True)


def test_every_treatment_of_missing_masks_is_explained_below_the_tables():
    assert tuple(MISSING_POLICY) == options.MISSING_CHOICES


def test_a_plain_comparison_records_only_what_a_missing_mask_counts():
    assert EvaluateOptions().to_record() == {"missing": "zero"}


def test_what_was_asked_for_is_recorded():
    options = EvaluateOptions(missing="skip", background=True, slices=1, renamed={4: 3, 2: 1})
    record = options.to_record()
    assert record.keys() == {"missing", "background", "slices", "renamed"}
    assert (record["missing"], record["renamed"]) == ("skip", "4=3, 2=1")
    assert "1" in record["slices"]


@pytest.mark.parametrize("slices", [3, -1, True, "2", 1.5])
def test_an_axis_that_is_none_is_refused(slices):
    with pytest.raises(UsageError, match="SETTING_INVALID: slices"):
        EvaluateOptions(slices=slices)


def test_a_treatment_of_missing_masks_that_is_none_is_refused():
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
        EvaluateOptions(missing="ignore")
