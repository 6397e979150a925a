"""What is typed: a bare verb has every default, what goes against each other is refused."""

from dataclasses import fields

import pytest

from medseg.cli import NOTATIONS, OF_BUNDLES, VERBS, list_fields, make_parser, read_command
from medseg.commands import CompareCommand, EvaluateCommand, PredictCommand, TrainCommand
from medseg.errors import UsageError
from medseg.inference.steps.description import NETWORK_FILES
from medseg.options import TARGETS, CheckOptions, EvaluateOptions, PredictOptions, TrainOptions

BARE = {
    "predict": ["BUNDLE", "INPUT", "OUTPUT"],
    "evaluate": ["MASKS", "REFERENCES"],
    "train": ["BUNDLE", "--data", "DATA"],
    "compare": ["RUN"],
    "check": ["DATA"],
    "demo": [],
    "verify": ["BUNDLE"],
    "export": ["BUNDLE", "OUTPUT", "--to", "onnx"],
}


def typed(verb, *words):
    above = ["bundle"] if verb in OF_BUNDLES else []
    parsed = make_parser().parse_args([*above, verb, *words])
    return read_command(parsed.verb[0], vars(parsed))


@pytest.mark.parametrize("verb", [*VERBS, *OF_BUNDLES])
def test_a_bare_verb_has_the_defaults_of_its_options(verb):
    command = typed(verb, *BARE[verb])
    assert type(command) is {**VERBS, **OF_BUNDLES}[verb][0]
    assert not command.quiet
    own = {"predict": PredictOptions, "evaluate": EvaluateOptions, "train": TrainOptions, "check": CheckOptions}
    assert getattr(command, "options", None) == (own[verb]() if verb in own else None)


@pytest.mark.parametrize("verb", [*VERBS, *OF_BUNDLES])
def test_what_a_verb_is_for_and_an_example_of_it_are_told(verb):
    command = {**VERBS, **OF_BUNDLES}[verb][0]
    words = ["medseg", "bundle", verb] if verb in OF_BUNDLES else ["medseg", verb]
    assert command.example.split()[: len(words)] == words
    assert command.summary[0].islower() and not command.summary.endswith(".")
    for line in command.example.replace("\\\n", " ").splitlines():
        make_parser().parse_args(line.split()[1:])


@pytest.mark.parametrize("verb", [*VERBS, *OF_BUNDLES])
def test_an_option_is_typed_as_its_field_is_named_but_for_these(verb):
    own = {"mask_format": "--format", "locator_margin_mm": "--locator-margin", "settings": "--set", "renamed": "--map"}
    own |= {"run_folder": "--run", "networks": "--network", "losses": "--loss"}
    for item in list_fields({**VERBS, **OF_BUNDLES}[verb][0]):
        wanted = own.get(item.name, f"--{item.name.replace('_', '-')}")
        assert item.metadata["flag"] in ("", wanted)


def test_every_notation_is_that_of_an_option_and_every_mapping_has_one():
    typed_options = [item for command, _ in {**VERBS, **OF_BUNDLES}.values() for item in list_fields(command)]
    assert set(NOTATIONS) <= {item.metadata.get("metavar") for item in typed_options}
    mappings = [item for item in typed_options if item.default_factory is dict]
    assert len(mappings) == 4
    assert {item.metadata["metavar"] for item in mappings} <= set(NOTATIONS)


def test_every_option_of_a_prediction_is_read_into_its_field():
    words = ["--device", "cpu", "--amp", "--tta", "--overlap", "0.5", "--backend", "onnx", "--series", "3:1"]
    words += ["--max-ram", "2K", "--format", "dicom-seg", "--seg-type", "labelmap", "--crop", "--locator", "none"]
    words += ["--locator-margin", "7.5", "--threads", "3", "--dry-run", "--allow", "A_B", "--allow", "C_D", "--quiet"]
    command = typed("predict", "b", "i", "o", *words)
    wanted = PredictOptions(
        "cpu", True, True, 0.5, False, "onnx", "3:1", 2048, "dicom-seg", "labelmap", True, "none", 7.5, 3
    )
    assert command == PredictCommand(
        bundle="b", images="i", output="o", options=wanted, dry_run=True, allow=("A_B", "C_D"), quiet=True
    )
    assert typed("predict", "b", "i", "o", "--probabilities").options == PredictOptions(probabilities=True)


def test_every_option_of_an_evaluation_is_read_into_its_field():
    words = ["--held-out", "s", "--missing", "skip", "--background", "--slices", "1", "--map", "4=3", "--map", "2=1"]
    words += ["--output", "o", "--report", "p", "--images", "i", "--run", "r"]
    wanted = EvaluateOptions(held_out="s", missing="skip", background=True, slices=1, renamed={4: 3, 2: 1})
    assert typed("evaluate", "m", "r", *words) == EvaluateCommand(
        masks="m", references="r", output="o", options=wanted, report="p", images="i", run_folder="r"
    )
    assert typed("evaluate", "m", "r", "--slices").options.slices == 2


@pytest.mark.parametrize("pairs", [["4"], ["a=3"], ["4=3", "4=2"], ["-1=2"], ["1=2=3"]])
def test_a_value_is_read_as_one_class(pairs):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: --map {pairs[-1]}"):
        typed("evaluate", "m", "r", *(f"--map={pair}" for pair in pairs))


def test_every_target_of_an_export_can_be_typed_and_has_its_files():
    assert set(TARGETS) == set(NETWORK_FILES)
    for name in TARGETS:
        assert typed("export", "b", "o", "--to", name).to == name


def test_three_axes_stand_for_the_form_that_takes_volumes_whole():
    train = ["b", "--data", "d"]
    assert typed("train", *train, "--spatial-dims", "3").options == TrainOptions(form="volumetric")
    assert typed("train", *train, "--spatial-dims", "3", "--form", "volumetric").options.form == "volumetric"
    assert typed("train", *train, "--spatial-dims", "2", "--form", "small").options.form == "small"
    with pytest.raises(UsageError, match="SETTING_INVALID: --spatial-dims 3: goes against --form small"):
        TrainCommand(bundle="b", data="d", options=TrainOptions(form="small"), spatial_dims=3)


def test_what_is_compared_by_training_is_read_into_its_field():
    places = ["--bundle", "b", "--data", "d", "--output", "o"]
    words = ["--network", "unet, res-unet", "--loss", "dice", "--vary", "a=1,2", "--set", "b=1e-3", "--folds", "2"]
    command = typed("compare", *places, *words, "--part", "test", "--epochs", "3", "--form", "small", "--new-split")
    assert command == CompareCommand(
        bundle="b",
        data="d",
        output="o",
        networks=("unet", "res-unet"),
        losses=("dice",),
        vary={"a": (1, 2)},
        settings={"b": 0.001},
        folds=2,
        part="test",
        epochs=3,
        form="small",
        new_split=True,
    )


@pytest.mark.parametrize("name", CompareCommand.of_training)
def test_an_option_of_training_beside_runs_is_refused_by_its_flag(name):
    item = next(item for item in fields(CompareCommand) if item.name == name)
    with pytest.raises(UsageError) as refused:
        CompareCommand(runs=("run",), **{name: 1})
    assert (
        str(refused.value)
        == f"SETTING_INVALID: {item.metadata['flag']}: goes with --bundle, not with RUNs; leave it out"
    )


def test_a_comparison_needs_runs_or_a_bundle_with_its_places():
    with pytest.raises(UsageError, match="NOTHING_TO_COMPARE: medseg compare"):
        CompareCommand()
    with pytest.raises(UsageError, match="--data or --output is not given"):
        CompareCommand(bundle="b", data="d")
    with pytest.raises(UsageError, match="runs are named as well: run"):
        CompareCommand(bundle="b", data="d", output="o", runs=("run",))
