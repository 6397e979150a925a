import json
import warnings

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from medseg.bundle.config import (
    find_bundle,
    find_config,
    find_shipped,
    form_names,
    merge_files,
    near_names,
    read_config,
    read_form,
    read_forms,
    value_at,
)
from medseg.errors import BundleError, UsageError


def write(folder, **files):
    """Configurations as JSON, in the order in which they are laid over each other."""
    paths = [folder / f"{name}.json" for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_text(json.dumps(content), encoding="utf8")
    return paths


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
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
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
    assert value_at(config, "a::b") == 2
    assert value_at(config, "a::b::c") is None


MERGED_BY_MONAI = {
    "a whole key is replaced": ({"a": {"b": 1}}, {"a": {"c": 2}}),
    "a place in a table": ({"a": {"b": 1, "c": 2}}, {"a::b": 3}),
    "a new place in a table": ({"a": {}}, {"a::b": 3}),
    "a place by the older sign": ({"a": {"b": {"c": 1}}}, {"a#b#c": 2}),
    "a place in a list": ({"a": [{"b": 1}, 2]}, {"a::0::b": 3, "a::1": 4}),
    "the end of a list": ({"a": [1, 2]}, {"a::-1": 5}),
    "a table is added to": ({"a": {"b": 1}}, {"+a": {"c": 2}}),
    "a list is added to": ({"a": [1]}, {"+a": [2]}),
    "a list in a table is added to": ({"a": {"b": [1]}}, {"+a::b": [2]}),
    "an addition to nothing is a copy": ({}, {"+a": [1]}),
    "a key that goes deeper in the base": ({"a": {}, "a::b": 1}, {"a::c": 2}),
    "a base without keys": ({}, {"a": {"b": 1}}),
}


@pytest.mark.parametrize("pair", MERGED_BY_MONAI.values(), ids=MERGED_BY_MONAI)
@pytest.mark.filterwarnings("ignore:Can't merge entry")
def test_files_are_merged_as_monai_merges_them(tmp_path, pair):
    paths = write(tmp_path, base=pair[0], overlay=pair[1])
    assert merge_files(*paths) == ConfigParser.load_config_files(paths)
    assert merge_files(paths[0]) == ConfigParser.load_config_files(paths[0])


REFUSED_BY_MONAI = {
    "a parent that is missing": ({}, {"a::b": 1}),
    "a grandparent that is missing": ({"a": {}}, {"a::b::c": 1}),
    "a parent that is a number": ({"a": 5}, {"a::b": 1}),
    "a parent that is a reference": ({"a": "@c", "c": {}}, {"a::b": 1}),
    "a parent that is a text": ({"a": "text"}, {"a::0": 1}),
    "a parent that is nothing": ({"a": None}, {"a::b": 1}),
    "a place behind a list's end": ({"a": [1]}, {"a::9": 1}),
    "a word in a list": ({"a": [1]}, {"a::b": 1}),
    "a list added to a number": ({"a": 5}, {"+a": [1]}),
    "a table added to a list": ({"a": [1]}, {"+a": {"b": 1}}),
    "an addition to what has no parent": ({}, {"+a::b": [1]}),
    "a key in the base without its parent": ({"a::b": 1}, {}),
}


@pytest.mark.parametrize("pair", REFUSED_BY_MONAI.values(), ids=REFUSED_BY_MONAI)
def test_what_monai_cannot_merge_is_refused_with_file_and_key(tmp_path, pair):
    paths = write(tmp_path, base=pair[0], overlay=pair[1])
    with pytest.raises((KeyError, ValueError, TypeError, IndexError)):
        ConfigParser.load_config_files(paths)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE") as refused:
        merge_files(*paths)
    where, keys = (paths[1], pair[1]) if pair[1] else (paths[0], pair[0])
    assert refused.value.case == str(where)
    assert next(iter(keys)) in refused.value.problem


LEAVES = st.one_of(st.integers(0, 3), st.none(), st.sampled_from(["@a", "text"]))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
)
STEPS = st.lists(st.sampled_from(["a", "b", "c", "0", "1"]), min_size=1, max_size=3).map("::".join)
TABLES = st.dictionaries(st.tuples(st.sampled_from(["", "+"]), STEPS).map("".join), VALUES, max_size=4)


@given(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), TABLES)
def test_any_two_files_give_what_monai_makes_of_them_or_an_error_where_it_has_one(tmp_path_factory, base, overlay):
    paths = write(tmp_path_factory.mktemp("any"), base=base, overlay=overlay)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = ConfigParser.load_config_files(paths)
        except (KeyError, ValueError, TypeError, IndexError):
            with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
                merge_files(*paths)
        else:
            assert merge_files(*paths) == expected


def test_a_key_set_by_monai_s_parser_is_the_key_of_a_file(tmp_path):
    base, changes = {"a": {"b": [1, 2]}, "c": 1}, {"a::b::1": 5, "c": {"d": 2}, "a::e": None}
    parser = ConfigParser(json.loads(json.dumps(base)))
    parser.update(changes)
    assert merge_files(*write(tmp_path, base=base, overlay=changes)) == parser.get()


def test_a_file_that_is_laid_over_another_changes_neither_of_them(tmp_path):
    paths = write(tmp_path, base={"a": [1]}, overlay={"+a": [2]})
    assert merge_files(*paths) == merge_files(*paths) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.json", '{"a": 1, "a": 2}'),
        ("train.json", '{"a": {"deep": [{"b": 1, "b": 2}]}}'),
        ("train.yaml", "a: 1\na: 2\n"),
        ("train.yml", "deep:\n  - b: 1\n    b: 2\n"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_its_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(BundleError, match=r"BUNDLE_UNREADABLE.*'[ab]' stands there 2 times") as refused:
        read_config(tmp_path / name)
    assert refused.value.case == str(tmp_path / name)


@pytest.mark.parametrize("text", ["a: &x {b: 1}\nc:\n  <<: *x\n", "? [1]\n: 2\n", "a: !!python/name:os.system\n", "{"])
def test_yaml_that_monai_cannot_read_is_refused(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises((yaml.YAMLError, TypeError)):
        ConfigParser.load_config_file(path)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        read_config(path)


def test_a_yaml_file_whose_keys_are_no_text_is_refused(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("1: 2\n")
    with pytest.raises(AttributeError):
        ConfigParser.load_config_files(path)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        merge_files(path)


def test_a_key_without_a_name_that_replaces_the_whole_by_a_list_is_refused(tmp_path):
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE.*not a table"):
        merge_files(*write(tmp_path, base={"a": 1}, overlay={"": [1]}))


def test_files_are_read_as_utf8_whatever_the_locale(tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    (path,) = write(tmp_path, base={"label": "Läsion"})
    path.write_text('{"label": "Läsion"}', encoding="utf8")
    assert read_config(path) == {"label": "Läsion"}
    path.write_bytes('{"label": "Läsion"}'.encode("latin-1"))
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        read_config(path)


def as_yaml(bundle, name):
    """One configuration written as YAML instead of JSON."""
    path = bundle / "configs" / f"{name}.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()


def test_a_form_in_yaml_is_a_form(tmp_path):
    bundle = bundle_of(tmp_path, train={"a": 1}, train_small={"a": 2}, inference_wide={"b": 3})
    as_yaml(bundle, "train_small")
    assert form_names(bundle) == ("small", "wide")
    assert read_form(bundle, "small")["train"] == {"a": 2}
    forms, found = read_forms(bundle)
    assert [(form.name, form.configs["train"]) for form in forms] == [
        ("", {"a": 1}),
        ("small", {"a": 2}),
        ("wide", {"a": 1}),
    ]
    assert found == []
    assert forms[1].owns("train")
    assert not forms[2].owns("train")


def test_a_base_in_yaml_is_found_and_json_comes_first(tmp_path):
    bundle = bundle_of(tmp_path, train={"a": 1})
    as_yaml(bundle, "train")
    assert find_config(bundle, "train").name == "train.yaml"
    assert read_form(bundle, None)["train"] == {"a": 1}
    write(bundle / "configs", train={"a": 2})
    assert read_form(bundle, None)["train"] == {"a": 2}


def test_every_file_that_cannot_be_read_is_found_at_once(tmp_path):
    bundle = bundle_of(tmp_path, train_small={"x::y": 1})
    (bundle / "configs" / "inference.json").write_text("{")
    forms, found = read_forms(bundle)
    assert [form.name for form in forms] == [""]
    assert sorted(forms[0].configs) == ["metadata", "train"]
    assert {finding.place.rpartition("/")[2] for finding in found} == {"inference.json", "train_small.json"}
    assert {finding.code for finding in found} == {"BUNDLE_UNREADABLE"}


def test_a_folder_is_found_by_its_path_whatever_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine" / "configs").mkdir(parents=True)
    assert find_bundle(tmp_path / "mine") == (tmp_path / "mine").resolve()
    monkeypatch.chdir(tmp_path)
    assert find_bundle("mine") == (tmp_path / "mine").resolve()


def test_a_folder_wins_over_the_shipped_bundle_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "phantom_ct_segmentation" / "configs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_bundle("phantom_ct_segmentation") == (tmp_path / "phantom_ct_segmentation").resolve()
    assert find_shipped("phantom_ct_segmentation") != (tmp_path / "phantom_ct_segmentation").resolve()


def test_a_folder_without_configurations_is_told_apart_from_none(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND.*no folder 'configs' in it"):
        find_bundle(tmp_path / "empty")
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND.*no such folder or name"):
        find_bundle(tmp_path / "none")


def test_nothing_is_near_where_nothing_is_shipped():
    assert near_names("acdc", []) == []


def test_shipped_bundles_are_found_by_name():
    assert (find_bundle("phantom_ct_segmentation") / "configs" / "inference.json").is_file()


def test_an_unknown_bundle_lists_the_shipped_ones():
    with pytest.raises(BundleError, match=r"BUNDLE_NOT_FOUND.*hippocampus_mr_segmentation"):
        find_bundle("hipocampus")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hipocampus", "hippocampus_mr_segmentation"),
        ("acdc", "acdc_mr_segmentation"),
        ("ACDC-mr", "acdc_mr_segmentation"),
        ("isbi_em", "isbi_em_segmentation"),
        ("bundles/polyp", "polyp_endoscopy_segmentation"),
        ("phantom_ct_segmentaton", "phantom_ct_segmentation"),
    ],
)
def test_the_bundle_that_may_be_meant_is_named_first(name, meant):
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND") as refused:
        find_bundle(name)
    assert f"did you mean {meant}?" in refused.value.remedy


@pytest.mark.parametrize("name", ["xyz", "segmentation"])
def test_a_name_like_none_or_like_all_of_them_is_no_hint(name):
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND") as refused:
        find_bundle(name)
    assert "did you mean" not in refused.value.remedy
