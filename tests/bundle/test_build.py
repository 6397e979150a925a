import json
import subprocess
import sys
from dataclasses import replace

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from medseg.bundle.build import bundle_files, find_drifted_files, metadata, render_card, write_bundle
from tests.conftest import ROOT

BUNDLES = ["hippocampus_mr_segmentation", "phantom_ct_segmentation"]
ALL_BUNDLES = sorted(path.parent.name for path in (ROOT / "bundles").glob("*/configs"))


def test_a_written_bundle_is_in_step_until_a_file_changes(tiny_settings, licence, tmp_path):
    written = write_bundle(tiny_settings, tmp_path, licence)
    assert len(written) == len(bundle_files(tiny_settings, licence))
    assert find_drifted_files(tiny_settings, tmp_path, licence) == []
    assert write_bundle(tiny_settings, tmp_path, licence) == []
    card = tmp_path / tiny_settings.name / "docs" / "README.md"
    card.write_text(card.read_text() + "by hand")
    assert find_drifted_files(tiny_settings, tmp_path, licence) == [card]
    card.unlink()
    assert find_drifted_files(tiny_settings, tmp_path, licence) == [card]


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_metadata_follows_monai_s_schema(name):
    """The schema itself is fetched by MONAI from the network; its required keys are checked here."""
    meta = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text())
    required = {"schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"}
    required |= {"task", "description", "authors", "copyright", "network_data_format"}
    assert required <= set(meta)
    assert meta["version"] in meta["changelog"]


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_the_network_s_input_and_output_are_as_the_metadata_says(name):
    configs = ROOT / "bundles" / name / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
        n=1,
    )


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("inference", "infer")])
def test_every_property_that_monai_knows_is_there(name, config, kind, ball_data):
    path = ROOT / "bundles" / name / "configs" / f"{config}.json"
    places = {"bundle_root": str(path.parent.parent), "dataset_dir": str(ball_data)}
    workflow = ConfigWorkflow(str(path), workflow_type=kind, logging_file=False, **places)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_training_and_prediction_prepare_images_alike(name):
    configs = ROOT / "bundles" / name / "configs"
    train = json.loads((configs / "train.json").read_text())
    form = configs / f"train_{json.loads((configs / 'metadata.json').read_text())['weights_form']}.json"
    train.update(json.loads(form.read_text()) if form.is_file() else {})
    inference = json.loads((configs / "inference.json").read_text())

    def for_images(steps):
        found = []
        for step in steps:
            step = dict(step)
            keys = step["keys"] if isinstance(step["keys"], list) else [step["keys"]]
            if "image" in keys:
                mode = step.get("mode")
                found.append({**step, "keys": "image", **({"mode": mode[0]} if isinstance(mode, list) else {})})
        return found

    wanted = for_images(inference["preprocessing"]["transforms"])
    assert for_images(train["validate"]["preprocessing"]["transforms"]) == wanted
    assert for_images(train["train"]["deterministic_transforms"])[: len(wanted)] == wanted
    assert train["network_def"] == inference["network_def"]
    assert train["validate"]["inferer"]["_target_"] == inference["inferer"]["_target_"]


def test_a_form_is_what_it_changes_of_the_bundle(tiny_settings, licence):
    settings = replace(tiny_settings, forms={"flat": {"epochs": 9}, "wide": {"network": {"filters": 8}}})
    files = {name: json.loads(text) for name, text in bundle_files(settings, licence).items() if "json" in name}
    assert files["configs/train_flat.json"] == {"epochs": 9}
    assert files["configs/inference_wide.json"] == {"network_options": {"filters": 8, "depth": 2}}
    assert "configs/inference_flat.json" not in files


def test_a_bundle_predicts_with_the_form_whose_weights_are_shipped_and_trains_beside_them(tiny_settings, licence):
    settings = replace(tiny_settings, forms={"wide": {"network": {"filters": 8}}}, shipped="wide")
    files = {name: json.loads(text) for name, text in bundle_files(settings, licence).items() if "json" in name}
    assert files["configs/inference.json"]["network_options"]["filters"] == 8
    assert files["configs/train.json"]["network_options"]["filters"] == 4
    assert files["configs/train.json"]["ckpt_dir"] != files["configs/inference.json"]["ckpt_dir"]
    assert "ckpt_dir" not in files["configs/train_wide.json"]
    assert files["configs/inference_study.json"]["network_options"]["filters"] == 4


@pytest.mark.parametrize("network", ["attention-res-unet", "SegResNet"])
def test_another_network_is_one_override(network):
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / "hippocampus_mr_segmentation" / "configs" / "train.json"))
    parser["network_name"] = network
    built = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in built.parameters()) > 0


def test_the_shipped_bundles_are_in_step_with_their_sources():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_bundles.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_monai_verifies_the_metadata_against_a_schema(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "required": ["network_data_format"]}))
    meta = ROOT / "bundles" / BUNDLES[0] / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(schema))


def test_the_card_names_structures_licence_and_commands(tiny_settings):
    text = render_card(tiny_settings)
    assert "| 1 | ball |" in text
    assert "medseg predict ball_segmentation SCANS MASKS" in text
    assert "Not trained yet." in text
    assert "None" not in text


def test_the_card_of_a_trained_bundle_has_its_scores_and_its_training(tiny_settings):
    trained = {"hardware": "two CPU cores", "test_dice": {"ball": 0.91}}
    text = render_card(replace(tiny_settings, trained=trained))
    assert "| ball | 0.91 |" in text
    assert "- Hardware: two CPU cores" in text
    assert metadata(replace(tiny_settings, trained=trained))["eval_metrics"] == {"ball": 0.91}


def test_the_metadata_describe_input_and_output(tiny_settings):
    formats = metadata(tiny_settings)["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == ["8*n", "8*n", "8*n"]
    assert formats["inputs"]["image"]["channel_def"] == {"0": "T1"}
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "ball"}
