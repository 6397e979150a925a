import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.bundle.config import read_config
from medseg.errors import UsageError
from medseg.networks import UNET_OPTIONS
from medseg.training.settings_check import (
    NAMED_BY,
    NUMBERS,
    OTHER_WORDS,
    Number,
    check_choices,
    check_kind,
    check_overrides,
    notes_on_changes,
    put,
    with_overrides,
)


@pytest.fixture
def config(tiny_bundle):
    return read_config(tiny_bundle / "configs" / "train.json")


def test_a_place_is_set_only_where_there_is_one():
    config = {"a": {"b": 1}}
    assert put(config, "a::b", 2)
    assert not put(config, "a::c", 2)
    assert not put(config, "x::b", 2)
    assert config == {"a": {"b": 2}}


CONFIG = {"rate": 0.1, "count": 1, "is_on": False, "name": "dice", "none": None, "amp": "$x", "table": {}, "sizes": [1]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rate", "fast"),
        ("rate", True),
        ("rate", None),
        ("rate", {}),
        ("count", "1"),
        ("is_on", 1),
        ("is_on", "yes"),
        ("name", 5),
        ("name", True),
        ("table", 5),
        ("table", "text"),
    ],
)
def test_a_value_of_another_kind_is_refused(key, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: {key}"):
        check_overrides(CONFIG, {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rate", 1),
        ("count", 0.5),
        ("is_on", True),
        ("name", "bce"),
        ("none", 5),
        ("none", "text"),
        ("amp", False),
        ("rate", "@other"),
        ("table", "$other()"),
        ("table", {"a": 1}),
        ("sizes", "8:1:1"),
        ("sizes", (2, 3)),
    ],
)
def test_values_of_the_same_kind_and_expressions_are_taken(key, value):
    check_overrides(CONFIG, {key: value})


def test_a_place_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN.*did you mean sizes"):
        check_overrides(CONFIG, {"size": [2]})
    with pytest.raises(UsageError, match="SETTING_UNKNOWN: deep"):
        check_overrides(CONFIG, {"rate::deep": 1})


def test_any_option_of_the_networks_may_be_set_though_the_bundle_does_not_name_it():
    config = {"network_options": {"filters": 64, "depth": 4}, "loss_options": {}}
    check_overrides(config, {"network_options::activation": "elu", "loss_options::focal": {"gamma": 1.0}})
    assert put(config, "network_options::activation", "elu")
    assert put(config, "network_options", {"filters": 16})
    assert config["network_options"] == {"filters": 16, "depth": 4, "activation": "elu"}
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN.*activation"):
        check_overrides(config, {"network_options::activatio": "elu"})
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        check_overrides(config, {"network_options::dropout": "much"})


def test_the_channels_of_a_bundle_are_no_setting_of_a_training():
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        check_overrides({"channel_names": ["FLAIR", "T1Gd"]}, {"channel_names": ["T1", "T2"]})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("filters", "network_options::filters"),
        ("filter", "network_options::filters"),
        ("activation", "network_options::activation"),
        ("lr", "learning_rate"),
        ("batch", "batch_size"),
        ("bach_size", "batch_size"),
        ("optimiser", "optimizer_name"),
        ("network_options::activatio", "network_options::activation"),
        ("loss_options::focall", "loss_options::focal"),
        ("train::trainer::max_epoch", "max_epochs"),
    ],
)
def test_the_key_that_is_meant_is_named(config, key, meant):
    with pytest.raises(UsageError, match="SETTING_UNKNOWN") as refused:
        check_overrides(config, {key: 1})
    assert meant in refused.value.remedy


@pytest.mark.parametrize(("key", "value"), [("optimizer", "sgd"), ("loss", "dice"), ("network", "unet")])
def test_a_name_for_what_is_built_from_one_is_refused_with_the_key_that_takes_it(config, key, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: {key}") as refused:
        check_overrides(config, {key: value})
    assert f"{NAMED_BY[key]}={value}" in refused.value.remedy


def test_a_part_of_the_training_may_still_be_given_whole(config):
    check_overrides(config, {"optimizer": {"_target_": "torch.optim.SGD"}, "network": "$@network_def"})


def test_every_hint_leads_to_a_key_that_bundles_have(config):
    assert {*NAMED_BY, *NAMED_BY.values(), *OTHER_WORDS.values()} <= set(config)
    assert not set(OTHER_WORDS) & {*config, *UNET_OPTIONS}


def test_a_key_like_no_other_lists_those_that_there_are(config):
    with pytest.raises(UsageError, match="SETTING_UNKNOWN") as refused:
        check_overrides(config, {"zzzz": 1})
    assert "learning_rate" in refused.value.remedy


@pytest.mark.parametrize(
    ("key", "known", "value"),
    [
        ("learning_rate", 0.1, "fast"),
        ("learning_rate", 0.1, -1),
        ("learning_rate", 0.1, math.nan),
        ("learning_rate", 0.1, math.inf),
        ("learning_rate", 0.1, [1, 2]),
        ("learning_rate", 0.1, None),
        ("batch_size", 4, 0),
        ("batch_size", 4, 2.5),
        ("batch_size", 4, True),
        ("val_interval", 1, 0),
        ("num_workers", 0, -1),
        ("seed", 1, 1.5),
        ("cache_rate", 1.0, 2),
        ("clip_norm", 0.0, "big"),
        ("amp", "$@device.type == 'cuda'", "maybe"),
        ("amp", False, 1),
        ("device", "$torch.device('cpu')", "cuda"),
        ("own_number", 3, [3]),
        ("own_text", "a", ["a"]),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_with_the_kind_that_it_takes(key, known, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: {key}") as refused:
        check_kind(key, known, value)
    assert refused.value.remedy.startswith("give ")


@pytest.mark.parametrize(
    ("key", "known", "value"),
    [
        ("learning_rate", 0.1, 1),
        ("learning_rate", 0.1, 0),
        ("learning_rate", "$1e-3", "fast"),
        ("learning_rate", 0.1, "$1e-3"),
        ("learning_rate", 0.1, "@other"),
        ("batch_size", 4, 1),
        ("batch_size", [2, 2], [4, 4]),
        ("cache_rate", 1.0, 0),
        ("patience", 0, 20),
        ("amp", "$@device.type == 'cuda'", True),
        ("device", "$torch.device('cpu')", "$torch.device('cuda', 1)"),
        ("device", "cpu", "cuda"),
        ("a::roi_size", 96, [96, 64]),
        ("fractions", [0.5, 0.5], "8:1:1"),
        ("own_number", 3, 4.5),
        ("own", None, "anything"),
    ],
)
def test_a_value_that_a_setting_can_have_is_taken(key, known, value):
    check_kind(key, known, value)


@given(st.one_of(st.floats(), st.integers(-5, 5), st.text(), st.none(), st.booleans()))
def test_a_number_is_held_where_it_lies_in_the_range_and_nothing_else_is(value):
    is_number = type(value) in (int, float)
    assert Number(-1, 2).holds(value) == (is_number and -1 <= value <= 2)
    assert Number(-1, 2, is_whole=True).holds(value) == (type(value) is int and -1 <= value <= 2)


def test_every_number_s_kind_is_told_in_words_that_name_its_limits():
    assert {number.text for number in NUMBERS.values()} == {
        "whole number of 1 or more",
        "whole number of 0 or more",
        "number of 0 or more",
        "number from 0 to 1",
    }


def test_what_a_bundle_says_itself_can_be_built(config):
    check_choices(config)
    check_choices({})


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("network_name", "unnet", "NAME_UNKNOWN"),
        ("network_options", {"filter": 4}, "SETTING_UNKNOWN"),
        ("network_options", {"filters": "many"}, "SETTING_INVALID"),
        ("network_options::activation", ["elu"], "SETTING_INVALID"),
        ("loss_name", "dise", "NAME_UNKNOWN"),
        ("loss_options", {"dise": {}}, "NAME_UNKNOWN"),
        ("loss_options", {"focal": {"gama": 1}}, "SETTING_UNKNOWN"),
        ("loss_options", {"focal": 2}, "SETTING_INVALID"),
        ("loss_options", {"dice-ce": {"dice_weight": "much"}}, "SETTING_INVALID"),
        ("optimizer_name", "sdg", "NAME_UNKNOWN"),
        ("schedule_name", "pol", "NAME_UNKNOWN"),
        ("select_by", "dice", "SETTING_INVALID: select_by"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_own_code(config, key, value, code):
    with pytest.raises(UsageError, match=code):
        check_choices(with_overrides(config, {"loss_name": "dice-ce", key: value}))


@pytest.mark.parametrize("select_by", ["val_loss", "val_mean_dice", "val_mean_iou"])
def test_weights_may_be_selected_by_whatever_is_measured(config, select_by):
    check_choices({**config, "select_by": select_by})


@pytest.mark.parametrize(
    "changes",
    [
        {"network_name": "SegResNet"},
        {"network_def": {"_target_": "monai.networks.nets.UNet", "name": "mine"}},
        {"loss": {"_target_": "torch.nn.CrossEntropyLoss"}},
        {"loss_name": "$'di' + 'ce'"},
        {"network_options": {"filters": "$2 * 4"}},
    ],
)
def test_what_is_computed_or_not_ours_is_left_to_the_training(config, changes):
    check_choices({**config, **changes})


def codes(config, overrides):
    return [note.code for note in notes_on_changes(config, overrides)]


def test_another_optimizer_with_the_learning_rate_of_the_first_is_noted(config):
    (note,) = notes_on_changes(config, {"optimizer_name": "sgd"})
    assert note.code == "LEARNING_RATE_KEPT"
    assert all(word in note.problem for word in ("0.01", config["optimizer_name"], "sgd", "learning_rate="))


def test_nothing_is_noted_where_the_learning_rate_was_thought_of(config):
    assert codes(config, {"optimizer_name": "sgd", "learning_rate": 0.01}) == []
    assert codes(config, {"optimizer_name": config["optimizer_name"]}) == []
    assert codes(config, {"learning_rate": 1.0}) == []
    assert codes({}, {"optimizer_name": "sgd"}) == []
