import pytest

from medseg.bundle.inference_config import inference_config
from medseg.bundle.trust import select_sections
from medseg.errors import BundleError


@pytest.fixture
def config(tiny_settings):
    return inference_config(tiny_settings)


def test_the_needed_sections_of_our_bundles_hold_no_code(config):
    sections = select_sections(config, "inference.json", allow_code=False)
    assert set(sections) == {
        "network_def",
        "network_name",
        "network_options",
        "preprocessing",
        "inferer",
        "postprocessing",
    }


def test_savers_are_left_out_and_readers_are_ours(config):
    config["preprocessing"]["transforms"][0].pop("reader")
    sections = select_sections(config, "inference.json", allow_code=False)
    assert sections["preprocessing"]["transforms"][0]["reader"] == "medseg.data.images.VolumeReader"
    assert all("SaveImage" not in step["_target_"] for step in sections["postprocessing"]["transforms"])


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"},
        {"_target_": "os.system", "command": "true"},
        {"_target_": "subprocess.Popen", "args": ["true"]},
        {"_target_": "monai.bundle.run"},
        {"_target_": "monai.transforms.io.array.LoadImage.__init__"},
        {"_target_": "Compose", "transforms": [{"_target_": "builtins.eval"}]},
        {"_target_": "Flipd", "keys": "image", "_mode_": "debug"},
        {"_target_": "Flipd", "keys": "%/etc/passwd"},
        {"_target_": "ScaleIntensityd", "keys": "image", "reader": "subprocess.Popen"},
        {"_target_": ["os.system"]},
        {"_target_": "SaveClassificationd", "keys": "image"},
        {"_target_": "TorchVisiond", "keys": "image", "name": "ColorJitter"},
        {"_target_": "RandLambdad", "keys": "image"},
        {"_target_": "MapLabelValued", "keys": "image", "allow_pickle": True},
    ],
)
def test_anything_that_would_run_code_is_refused(config, step):
    config["preprocessing"]["transforms"].append(step)
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE"):
        select_sections(config, "inference.json", allow_code=False)


def test_code_behind_a_reference_is_refused_too(config):
    config["preprocessing"]["transforms"].append("@hidden")
    config["hidden"] = {"_target_": "os.system"}
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE"):
        select_sections(config, "inference.json", allow_code=False)


def test_code_elsewhere_in_the_configuration_is_not_looked_at(config):
    config["unused"] = {"_target_": "os.system"}
    assert "unused" not in select_sections(config, "inference.json", allow_code=False)


def test_code_can_be_allowed_knowingly(config):
    config["inferer"]["overlap"] = "$1 / 4"
    assert select_sections(config, "inference.json", allow_code=True)["inferer"]["overlap"] == "$1 / 4"


def test_a_missing_section_is_named(config):
    config.pop("inferer")
    with pytest.raises(BundleError, match="BUNDLE_INCOMPLETE.*'inferer'"):
        select_sections(config, "inference.json", allow_code=False)


def test_a_loader_behind_a_reference_keeps_nothing_but_its_keys(config):
    """MONAI's loader unpickles .npy files when told to; a reference must not bring that back."""
    config["second"] = {"_target_": "LoadImaged", "keys": "image", "allow_pickle": True, "reader": "NumpyReader"}
    config["preprocessing"]["transforms"].append("@second")
    loader = select_sections(config, "inference.json", allow_code=False)["second"]
    assert loader == {
        "_target_": "LoadImaged",
        "keys": "image",
        "reader": "medseg.data.images.VolumeReader",
        "image_only": True,
    }


def test_a_saver_behind_a_reference_is_refused(config):
    config["saver"] = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "elsewhere"}
    config["postprocessing"]["transforms"].append("@saver")
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE"):
        select_sections(config, "inference.json", allow_code=False)


@pytest.mark.parametrize(
    ("section", "component"),
    [
        ("inferer", {"_target_": "PatchInferer", "merger_cls": "evilmod"}),
        ("inferer", {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8], "merger_cls": "evilmod"}),
        ("network_def", {"_target_": "HoVerNet", "pretrained_url": "http://example.invalid"}),
        ("network_def", {"_target_": "FlexibleUNet", "pretrained": True}),
    ],
)
def test_components_that_import_or_fetch_by_name_are_refused(config, section, component):
    config[section] = component
    with pytest.raises(BundleError, match="BUNDLE_RUNS_CODE"):
        select_sections(config, "inference.json", allow_code=False)
