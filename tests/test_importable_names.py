"""Names that bundles hold: what was written into a configuration once stays importable at exactly that place.

`frozen_configs` is as the bundles had it when the house was rebuilt, and is not written again: a name is added
where a bundle holds a new one, and none is taken away.
"""

import copy
import json
from importlib import import_module
from importlib.util import find_spec

import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.transforms import Compose
from torch import nn

from medseg.bundle.config import iterate_texts, merge_files
from medseg.bundle.trust import SECTIONS
from medseg.bundle.verify import build_sections
from tests.conftest import ROOT

FROZEN = ROOT / "tests" / "frozen_configs"
NAMES = json.loads((FROZEN / "names.json").read_text(encoding="utf8"))
KEYS_OF_NAMES = ("_target_", "reader", "writer")


def frozen(kind):
    return sorted(FROZEN.glob(f"*.{kind}.json"))


def names_in(value, key=""):
    if isinstance(value, dict):
        return {name for inner_key, inner in value.items() for name in names_in(inner, inner_key)}
    if isinstance(value, list):
        return {name for inner in value for name in names_in(inner, key)}
    return {value} if key in KEYS_OF_NAMES else set()


@pytest.mark.parametrize("name", NAMES["medseg"])
def test_a_name_that_bundles_hold_has_its_home_there(name):
    place, _, last = name.rpartition(".")
    namespace = {}
    exec(f"from {place} import {last}", namespace)
    assert callable(namespace[last])
    assert getattr(import_module(place), last) is namespace[last]
    # MONAI looks modules up first, and would take one of this name for the function.
    assert find_spec(place).submodule_search_locations is None or find_spec(name) is None


@pytest.mark.parametrize("line", NAMES["imports"])
def test_an_import_line_of_the_bundles_can_be_run(line):
    exec(line, {})


@pytest.fixture(scope="module")
def locator():
    return ComponentLocator()


@pytest.mark.parametrize("name", [name for name in NAMES["components"] if "." not in name])
def test_monai_has_the_components_that_bundles_name(name, locator):
    found = locator.get_component_module_name(name)
    assert found, f"MONAI has no {name}"
    assert callable(getattr(import_module(found if isinstance(found, str) else found[0]), name))


def test_every_name_that_a_bundle_holds_today_is_in_the_frozen_list():
    known = {*NAMES["medseg"], *NAMES["components"]}
    imports = set(NAMES["imports"])
    for path in sorted((ROOT / "bundles").glob("*/configs/*.json")):
        config = json.loads(path.read_text(encoding="utf8"))
        assert names_in(config) <= known, path
        assert {text[1:] for text in iterate_texts(config) if text.startswith(("$from ", "$import "))} <= imports, path


@pytest.mark.parametrize("path", frozen("inference"), ids=lambda path: path.stem)
def test_a_frozen_inference_configuration_is_trusted_and_built(path):
    config = merge_files(path)
    built, found = build_sections(config, path)
    assert found == []
    assert set(built) == set(SECTIONS)
    assert isinstance(built["network_def"], nn.Module)
    assert isinstance(built["preprocessing"], Compose)


BUILT_OF_TRAINING = (
    "network_def",
    "loss",
    "optimizer",
    "lr_scheduler",
    "train::deterministic_transforms",
    "train::random_transforms",
    "train::inferer",
    "train::postprocessing",
    "train::key_metric",
    "train::additional_metrics",
    "validate::preprocessing",
    "validate::inferer",
    "validate::postprocessing",
    "validate::key_metric",
    "validate::additional_metrics",
)


@pytest.mark.parametrize("path", frozen("train"), ids=lambda path: path.stem)
@pytest.mark.parametrize("key", BUILT_OF_TRAINING)
def test_the_parts_of_a_frozen_training_are_built(path, key):
    parser = ConfigParser(copy.deepcopy(merge_files(path)))
    parser.update({"device": "$torch.device('cpu')", "network": "@network_def"})
    assert parser.get_parsed_content(key) is not None


@pytest.mark.parametrize("path", frozen("multi_gpu_train"), ids=lambda path: path.stem)
def test_a_frozen_configuration_for_several_devices_is_laid_over_a_training(path):
    merged = merge_files(frozen("train")[0], path)
    assert merged["train"]["dataloader"]["sampler"] == "@train::sampler"
    assert merged["train"]["sampler"]["_target_"] == "DistributedSampler"
