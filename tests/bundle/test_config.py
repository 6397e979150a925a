import json

import pytest

from medseg.bundle.config import at, form_names, read_form
from medseg.errors import BundleError, UsageError


def bundle_of(folder, **files):
    (folder / "configs").mkdir()
    for name, config in {"train": {}, "inference": {}, "metadata": {}, **files}.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config))
    return folder


def test_a_form_replaces_whole_keys_and_single_places(tmp_path):
    train = {"a": {"b": 1, "c": 2}, "d": 3}
    bundle = bundle_of(tmp_path, train=train, train_x={"a::b": 9, "d": [4], "new": 5}, metadata_x={"version": "2"})
    configs = read_form(bundle, "x")
    assert configs == {
        "train": {"a": {"b": 9, "c": 2}, "d": [4], "new": 5},
        "inference": {},
        "metadata": {"version": "2"},
    }
    assert read_form(bundle, None)["train"] == train


def test_the_forms_are_those_of_any_configuration(tmp_path):
    bundle = bundle_of(tmp_path, train_small={}, inference_volumetric={}, train_volumetric={}, multi_gpu_train={})
    assert form_names(bundle) == ("small", "volumetric")


def test_a_bundle_without_forms_says_so(tmp_path):
    with pytest.raises(UsageError, match="FORM_UNKNOWN"):
        read_form(bundle_of(tmp_path), "small")


@pytest.mark.parametrize("overlay", [{"a::b": 1}, {"c::d": 1}])
def test_a_form_that_changes_what_is_not_there_is_refused(tmp_path, overlay):
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE.*train_x"):
        read_form(bundle_of(tmp_path, train={"a": 5}, train_x=overlay), "x")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_configuration_that_is_no_table_is_refused(tmp_path, text):
    (bundle_of(tmp_path) / "configs" / "train.json").write_text(text)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        read_form(tmp_path, None)


def test_a_bundle_whose_weights_are_of_another_form_is_trained_as_its_study_has_it(tmp_path):
    files = {"metadata": {"weights_form": "small"}, "metadata_study": {"weights_form": ""}}
    bundle = bundle_of(tmp_path, inference={"size": 16}, inference_study={"size": 64}, **files)
    assert read_form(bundle, None)["inference"] == {"size": 64}
    assert read_form(bundle, None)["metadata"] == {"weights_form": ""}


def test_what_stands_at_a_key_is_found_and_nothing_where_there_is_none():
    config = {"a": {"b": 2}}
    assert at(config, "a::b") == 2
    assert at(config, "a::b::c") is None
