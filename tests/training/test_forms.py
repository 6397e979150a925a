import json

import pytest

from medseg.errors import BundleError, UsageError
from medseg.training.forms import check_overrides, forms_of, laid_over, put, value_at


def bundle_of(folder, **files):
    (folder / "configs").mkdir()
    for name, config in {"train": {}, "inference": {}, "metadata": {}, **files}.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config))
    return folder


def test_a_form_replaces_whole_keys_and_single_places(tmp_path):
    train = {"a": {"b": 1, "c": 2}, "d": 3}
    bundle = bundle_of(tmp_path, train=train, train_x={"a::b": 9, "d": [4], "new": 5}, metadata_x={"version": "2"})
    configs = laid_over(bundle, "x")
    assert configs == {
        "train": {"a": {"b": 9, "c": 2}, "d": [4], "new": 5},
        "inference": {},
        "metadata": {"version": "2"},
    }
    assert laid_over(bundle, None)["train"] == train


def test_the_forms_are_those_of_any_configuration(tmp_path):
    bundle = bundle_of(tmp_path, train_small={}, inference_volumetric={}, train_volumetric={}, multi_gpu_train={})
    assert forms_of(bundle) == ("small", "volumetric")


def test_a_bundle_without_forms_says_so(tmp_path):
    with pytest.raises(UsageError, match="FORM_UNKNOWN"):
        laid_over(bundle_of(tmp_path), "small")


@pytest.mark.parametrize("overlay", [{"a::b": 1}, {"c::d": 1}])
def test_a_form_that_changes_what_is_not_there_is_refused(tmp_path, overlay):
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE.*train_x"):
        laid_over(bundle_of(tmp_path, train={"a": 5}, train_x=overlay), "x")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_configuration_that_is_no_table_is_refused(tmp_path, text):
    (bundle_of(tmp_path) / "configs" / "train.json").write_text(text)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        laid_over(tmp_path, None)


def test_a_place_is_set_only_where_there_is_one():
    config = {"a": {"b": 1}}
    assert put(config, "a::b", 2)
    assert not put(config, "a::c", 2)
    assert not put(config, "x::b", 2)
    assert config == {"a": {"b": 2}}
    assert value_at(config, "a::b") == 2
    assert value_at(config, "a::b::c") is None


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


def test_a_bundle_whose_weights_are_of_another_form_is_trained_as_its_study_has_it(tmp_path):
    files = {"metadata": {"weights_form": "small"}, "metadata_study": {"weights_form": ""}}
    bundle = bundle_of(tmp_path, inference={"size": 16}, inference_study={"size": 64}, **files)
    assert laid_over(bundle, None)["inference"] == {"size": 64}
    assert laid_over(bundle, None)["metadata"] == {"weights_form": ""}
