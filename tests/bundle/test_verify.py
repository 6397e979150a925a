import copy
import hashlib
import json

import pytest
import torch

from medseg import cli
from medseg.bundle.build import write_bundle
from medseg.bundle.settings import Settings
from medseg.bundle.verify import SCHEMAS, verify
from medseg.errors import BundleError
from medseg.networks import build_network
from tests.conftest import ROOT
from tests.end_to_end.test_third_party_bundle import INFERENCE, write_third_party

SHIPPED = sorted(path.parent.name for path in (ROOT / "bundles").glob("*/configs"))


def codes(bundle):
    """Those of errors, and those of notes."""
    found = verify(bundle)
    return tuple(sorted(finding.code for finding in found if finding.is_note == is_note) for is_note in (False, True))


def errors(bundle):
    return codes(bundle)[0]


def change(bundle, name, *steps):
    """Set what stands at the end of a way in one of the configurations; None takes it away."""
    path = bundle / "configs" / f"{name}.json"
    config = json.loads(path.read_text())
    *way, last, value = steps
    place = config
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    path.write_text(json.dumps(config))
    return path


def lay(bundle, name, **keys):
    (bundle / "configs" / f"{name}.json").write_text(json.dumps(keys))


def network_of(bundle, name="inference"):
    return json.loads((bundle / "configs" / f"{name}.json").read_text())["network_def"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_bundle_is_sound(name):
    assert [finding for finding in verify(name) if not finding.is_note] == []


def test_a_bundle_as_it_is_made_has_no_finding_at_all(tiny_bundle):
    assert verify(tiny_bundle) == []


def test_a_binary_picture_bundle_as_it_is_made_is_sound(tmp_path, licence):
    settings = Settings(
        name="spot_segmentation",
        title="Spot",
        description="A spot.",
        intended_use="Tests.",
        modality="photograph",
        channels=("red", "green", "blue"),
        labels={0: "background", 1: "spot"},
        data_source="made by the tests",
        patch_voxels=(32, 32),
        intensity={"kind": "unit"},
        network={"name": "res-unet", "filters": 4, "depth": 2},
    )
    write_bundle(settings, tmp_path, licence)
    assert errors(tmp_path / settings.name) == []


def test_the_schema_is_the_one_that_the_end_to_end_tests_hold_against_monai():
    for name, path in SCHEMAS.items():
        assert path.read_bytes() == (ROOT / "tests" / "end_to_end" / name).read_bytes()
    assert SCHEMAS


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND"):
        verify(tmp_path)


def test_all_faults_are_told_at_once(tiny_bundle):
    change(tiny_bundle, "metadata", "authors", 7)
    change(tiny_bundle, "inference", "dataset_dir", None)
    (tiny_bundle / "LICENSE").unlink()
    (tiny_bundle / "models" / "model.pt").write_bytes(b"no tensors")
    found = verify(tiny_bundle)
    assert {"BUNDLE_INCOMPLETE", "BUNDLE_METADATA", "BUNDLE_PROPERTY", "WEIGHTS_UNREADABLE"} == {
        finding.code for finding in found if not finding.is_note
    }
    assert all(finding.place and finding.problem and finding.remedy for finding in found)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        (("monai_version", None), "BUNDLE_METADATA"),
        (("network_data_format", "inputs", "image", "format", None), "BUNDLE_METADATA"),
        (("changelog", {"0.0.9": "older"}), "BUNDLE_METADATA"),
        (("network_data_format", "outputs", "pred", "channel_def", {"0": "background", "2": "ball"}), "BUNDLE_LABELS"),
        (("network_data_format", "outputs", "pred", "spatial_shape", ["12*n"] * 3), "BUNDLE_SHAPES"),
        (("network_data_format", "inputs", "image", "spatial_shape", ["8*q"] * 3), "BUNDLE_SHAPES"),
        (("network_data_format", "inputs", "image", "spatial_shape", ["9**9**9"] * 3), "BUNDLE_SHAPES"),
        (("network_data_format", "inputs", "image", "spatial_shape", ["8*n"] * 2), "BUNDLE_SHAPES"),
    ],
)
def test_metadata_that_is_not_so_is_found(tiny_bundle, steps, code):
    change(tiny_bundle, "metadata", *steps)
    assert code in errors(tiny_bundle)


def test_more_channels_in_the_metadata_than_in_the_network_are_found(tiny_bundle):
    change(tiny_bundle, "metadata", "network_data_format", "inputs", "image", "num_channels", 2)
    change(tiny_bundle, "metadata", "network_data_format", "inputs", "image", "channel_def", {"0": "T1", "1": "T2"})
    assert set(errors(tiny_bundle)) == {"BUNDLE_SHAPES"}


def test_a_schema_that_is_not_kept_here_is_noted_and_not_guessed(tiny_bundle):
    change(tiny_bundle, "metadata", "schema", "https://example.org/meta_schema_19990101.json")
    change(tiny_bundle, "metadata", "authors", 7)
    assert codes(tiny_bundle) == ([], ["SCHEMA_UNKNOWN"])


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("train", ("train", "trainer", "max_epochs", None)),
        ("train", ("bundle_root", None)),
        ("inference", ("dataset", None)),
    ],
)
def test_a_property_that_monai_requires_is_missed(tiny_bundle, name, steps):
    change(tiny_bundle, name, *steps)
    assert "BUNDLE_INCOMPLETE" in errors(tiny_bundle)


def test_a_property_under_another_name_is_found(tiny_bundle):
    change(tiny_bundle, "train", "my_handlers", [])
    change(tiny_bundle, "train", "train", "trainer", "train_handlers", "@my_handlers")
    assert errors(tiny_bundle) == ["BUNDLE_PROPERTY"]


def test_a_reference_to_nothing_is_found_in_text_expressions_and_overlays(tiny_bundle):
    change(tiny_bundle, "train", "val_interval", "@nothing")
    change(tiny_bundle, "inference", "output_dir", "$@nowhere + '/x'")
    change(tiny_bundle, "evaluate", "part", "@no::part")
    found = [finding for finding in verify(tiny_bundle) if finding.code == "BUNDLE_PROPERTY"]
    assert {finding.problem.split()[0] for finding in found} == {"@nothing", "@nowhere", "@no::part"}


@pytest.mark.parametrize(
    "steps",
    [
        ("network_options", "filters", 8),
        ("train", "deterministic_transforms", 5, {"_target_": "ScaleIntensityd", "keys": "image"}),
        ("validate", "preprocessing", "transforms", 4, None),
        ("validate", "inferer", "roi_size", [8, 8, 8]),
    ],
    ids=["network", "intensity", "orientation", "window"],
)
def test_training_on_something_else_than_is_predicted_is_found(tiny_bundle, steps):
    change(tiny_bundle, "train", *steps)
    assert set(errors(tiny_bundle)) == {"BUNDLE_INCONSISTENT"}


def test_other_patches_and_steps_that_need_the_mask_are_noted(tiny_bundle):
    steps = json.loads((tiny_bundle / "configs" / "train.json").read_text())["train"]
    crop = {"_target_": "CropForegroundd", "keys": ["image", "label"], "source_key": "label"}
    change(tiny_bundle, "train", "train", "deterministic_transforms", [*steps["deterministic_transforms"], crop])
    crops = [{**step, "roi_size": [8, 16, 16]} if "roi_size" in step else step for step in steps["random_transforms"]]
    change(tiny_bundle, "train", "train", "random_transforms", crops)
    assert codes(tiny_bundle) == ([], ["PATCHES_DIFFER", "TRAIN_NEEDS_MASK"])


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("train", ("train", "postprocessing", "num_classes", 3)),
        ("train", ("validate", "postprocessing", "transforms", 1, "to_onehot", 3)),
        ("train", ("train", "deterministic_transforms", 1, "values", [0, 1, 2])),
    ],
)
def test_another_number_of_classes_in_training_is_found(tiny_bundle, name, steps):
    change(tiny_bundle, name, *steps)
    assert errors(tiny_bundle) == ["BUNDLE_LABELS"]


def test_an_expression_where_predicting_needs_data_is_found_in_each_section(tiny_bundle, tmp_path):
    trap = f"$open({str(tmp_path / 'ran')!r}, 'w').close() or 0.5"
    change(tiny_bundle, "inference", "inferer", "overlap", trap)
    change(tiny_bundle, "inference", "network_options", "filters", trap)
    found = [finding for finding in verify(tiny_bundle) if finding.code == "BUNDLE_RUNS_CODE"]
    assert {finding.place.rsplit(": ", 1)[-1].split(".")[0] for finding in found} == {"inferer", "network_options"}
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_and_weights_that_changed_are_found(tiny_bundle):
    path = tiny_bundle / "models" / "model.pt"
    change(tiny_bundle, "metadata", "weights_sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    assert errors(tiny_bundle) == []
    torch.save(build_network("unet", 3, 1, 2, unet_options={"filters": 8, "depth": 2}).state_dict(), path)
    assert errors(tiny_bundle) == ["WEIGHTS_CHANGED", "WEIGHTS_MISMATCH"]


def test_the_hash_in_the_model_zoo_s_list_is_held_against_the_weights(tiny_bundle):
    listed = {"path": "models/model.pt", "url": "", "hash_val": "0" * 64, "hash_type": "sha256"}
    (tiny_bundle / "large_files.yml").write_text(json.dumps({"large_files": [listed]}))
    assert errors(tiny_bundle) == ["WEIGHTS_CHANGED"]


def test_absent_weights_are_a_note_and_in_a_run_an_error(tiny_bundle):
    (tiny_bundle / "models" / "model.pt").unlink()
    assert codes(tiny_bundle) == ([], ["WEIGHTS_ABSENT"])
    (tiny_bundle / "run.json").write_text("{}")
    assert codes(tiny_bundle) == (["WEIGHTS_MISSING"], [])


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"train": ["a"], "validation": ["b"], "test": ["c"]}, None),
        ({"train": ["a"], "validation": ["a"]}, "SPLIT_INVALID"),
        ({"train": ["a"]}, "SPLIT_INVALID"),
        ({"train": ["patient001_frame01"], "validation": ["b"], "test": ["patient001_frame12"]}, "SPLIT_LEAK"),
    ],
)
def test_a_split_that_overlaps_is_found(tiny_bundle, parts, code):
    (tiny_bundle / "configs" / "split.json").write_text(json.dumps(parts))
    assert errors(tiny_bundle) == ([code] if code else [])


def test_a_form_is_held_to_the_same_as_the_base(tiny_bundle):
    other = {**network_of(tiny_bundle), "unet_options": {"filters": 2, "depth": 2}}
    lay(tiny_bundle, "train_small", network_def=other)
    assert errors(tiny_bundle) == ["BUNDLE_INCONSISTENT"]
    lay(tiny_bundle, "inference_small", network_def=other)
    assert errors(tiny_bundle) == []
    lay(tiny_bundle, "metadata_small", network_data_format={"inputs": {}, "outputs": {}})
    assert "small" in {finding.place.rpartition("_")[2].removesuffix(".json") for finding in verify(tiny_bundle)}
    lay(tiny_bundle, "train_odd", **{"no::such::place": 1})
    assert "BUNDLE_UNREADABLE" in errors(tiny_bundle)


@pytest.mark.parametrize("keys", [{"no::such": 1}, {"+seed": [1]}, {"mirror_axes::5": 1}])
def test_a_form_is_laid_over_the_base_as_monai_does_it_or_is_refused_by_file_and_key(tiny_bundle, keys):
    lay(tiny_bundle, "train_odd", mirror_axes=[0], **keys)
    (finding,) = [finding for finding in verify(tiny_bundle) if not finding.is_note]
    assert (finding.code, finding.place.rpartition("/")[2]) == ("BUNDLE_UNREADABLE", "train_odd.json")
    assert next(iter(keys)) in finding.problem


def test_what_is_laid_over_the_training_may_be_yaml(tiny_bundle):
    (tiny_bundle / "configs" / "evaluate.json").unlink()
    (tiny_bundle / "configs" / "evaluate.yaml").write_text("run: ['$@nothing.run()']\n")
    (finding,) = [finding for finding in verify(tiny_bundle) if not finding.is_note]
    assert (finding.code, finding.problem) == ("BUNDLE_PROPERTY", "@nothing leads nowhere")


def test_a_base_that_trains_apart_from_the_shipped_weights_of_a_form_is_a_note(tiny_bundle):
    change(tiny_bundle, "train", "network_options", "filters", 8)
    lay(tiny_bundle, "train_small", network_options={"filters": 4, "depth": 2})
    assert set(errors(tiny_bundle)) == {"BUNDLE_INCONSISTENT"}
    change(tiny_bundle, "train", "ckpt_dir", "$@bundle_root + '/trained'")
    assert codes(tiny_bundle) == ([], ["FORM_OF_WEIGHTS"])


@pytest.mark.parametrize("name", ["metadata", "inference", "train"])
@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_file_is_one_finding_and_no_crash(tiny_bundle, name, text):
    (tiny_bundle / "configs" / f"{name}.json").write_text(text)
    assert "BUNDLE_UNREADABLE" in errors(tiny_bundle)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_bundle_that_somebody_else_wrote_is_read_and_its_gaps_are_listed(tmp_path, suffix):
    bundle = write_third_party(copy.deepcopy(INFERENCE), tmp_path / "theirs", suffix)
    wrong, noted = codes(bundle)
    assert (set(wrong), noted) == ({"BUNDLE_INCOMPLETE", "BUNDLE_METADATA"}, ["TRAIN_ABSENT"])


def test_the_command_lists_every_bundle_and_exits_with_4_where_one_is_unsound(tiny_bundle, tmp_path, capsys):
    assert cli.main(["bundle", "verify", str(tiny_bundle)]) == 0
    (tiny_bundle / "LICENSE").unlink()
    assert cli.main(["bundle", "verify", str(tiny_bundle), str(tmp_path / "absent"), "--quiet"]) == 4
    told = capsys.readouterr().out
    assert "BUNDLE_INCOMPLETE" in told and "BUNDLE_NOT_FOUND" in told
