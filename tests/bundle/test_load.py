import json
import subprocess
import sys

import pytest
import torch
import yaml

from medseg.bundle.load import _labels, open_bundle, running_root
from medseg.errors import BundleError


def test_a_bundle_opens_with_its_names(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    assert (bundle.channels, bundle.labels, bundle.spatial_dims) == (("T1",), {0: "background", 1: "ball"}, 3)
    assert bundle.mirror_axes == (0,)
    assert not bundle.network.training


def change_weights(bundle, change):
    path = bundle / "models" / "model.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def drop_first(state):
    del state[next(iter(state))]


def reshape_first(state):
    first = next(iter(state))
    state[first] = torch.zeros(1)


def add_one(state):
    state["other.weight"] = torch.zeros(1)


@pytest.mark.parametrize("change", [drop_first, reshape_first, add_one])
def test_weights_that_do_not_fit_are_refused(tiny_bundle, change):
    change_weights(tiny_bundle, change)
    with pytest.raises(BundleError, match="WEIGHTS_MISMATCH.*1 tensors"):
        open_bundle(tiny_bundle)


def test_weights_with_nan_are_refused(tiny_bundle):
    change_weights(tiny_bundle, lambda state: state[next(iter(state))].fill_(float("nan")))
    with pytest.raises(BundleError, match="WEIGHTS_NONFINITE"):
        open_bundle(tiny_bundle)


def test_missing_weights_say_what_to_do(tiny_bundle):
    (tiny_bundle / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match="WEIGHTS_MISSING.*train the bundle"):
        open_bundle(tiny_bundle)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04cut"])
def test_a_file_that_is_no_checkpoint_is_refused(tiny_bundle, content):
    (tiny_bundle / "models" / "model.pt").write_bytes(content)
    with pytest.raises(BundleError, match="WEIGHTS_UNREADABLE"):
        open_bundle(tiny_bundle)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_a_pickle_in_the_weights_does_not_run(tiny_bundle, tmp_path):
    torch.save({"payload": Payload(tmp_path / "ran")}, tiny_bundle / "models" / "model.pt")
    with pytest.raises(BundleError, match="WEIGHTS_UNREADABLE"):
        open_bundle(tiny_bundle)
    assert not (tmp_path / "ran").exists()


def test_a_broken_configuration_names_the_file(tiny_bundle):
    (tiny_bundle / "configs" / "inference.json").write_text("{")
    with pytest.raises(BundleError, match=r"BUNDLE_UNREADABLE.*inference.json"):
        open_bundle(tiny_bundle)


def test_a_section_that_cannot_be_built_is_named(tiny_bundle):
    path = tiny_bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["inferer"]["roi"] = 3
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"BUNDLE_UNREADABLE.*inferer.*roi"):
        open_bundle(tiny_bundle)


def test_the_running_bundle_is_the_one_on_the_command_line(tiny_bundle, monkeypatch):
    config = tiny_bundle / "configs" / "train.json"
    for words in (["--config_file", str(config)], [f"--config_file=['{config}','{config}']"]):
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *words])
        assert running_root() == str(tiny_bundle)
    monkeypatch.setattr(sys, "argv", ["python"])
    assert running_root() == "."


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_channels", None), ("spatial_shape", 3), ("spatial_shape", ["*"]), ("channel_def", ["T1"])],
)
def test_metadata_that_cannot_be_gone_by_are_refused(tiny_bundle, key, value):
    def change(meta):
        meta["network_data_format"]["inputs"]["image"][key] = value

    change_json(tiny_bundle / "configs" / "metadata.json", change)
    with pytest.raises(BundleError, match="BUNDLE_INCOMPLETE.*network_data_format.inputs.image"):
        open_bundle(tiny_bundle)


@pytest.mark.parametrize("axes", [5, [7], ["x"]])
def test_axes_that_are_none_are_refused(tiny_bundle, axes):
    change_json(tiny_bundle / "configs" / "inference.json", lambda config: config.update(mirror_axes=axes))
    with pytest.raises(BundleError, match="mirror_axes"):
        open_bundle(tiny_bundle)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000, b"[]"])
def test_a_configuration_that_is_no_table_is_refused(tiny_bundle, content):
    (tiny_bundle / "configs" / "metadata.json").write_bytes(content)
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE"):
        open_bundle(tiny_bundle)


@pytest.mark.parametrize("name", ["inference", "metadata"])
def test_a_key_that_stands_twice_is_refused(tiny_bundle, name):
    path = tiny_bundle / "configs" / f"{name}.json"
    path.write_text(path.read_text().replace("{", '{"version": "0.0.1", "version": "0.0.2",', 1))
    with pytest.raises(BundleError, match=rf"BUNDLE_UNREADABLE: .*{name}.json: the key 'version' stands there"):
        open_bundle(tiny_bundle)


def test_a_bundle_in_yaml_opens_as_in_json(tiny_bundle):
    before = open_bundle(tiny_bundle)
    for name in ("inference", "metadata"):
        path = tiny_bundle / "configs" / f"{name}.json"
        path.with_suffix(".yml").write_text(yaml.safe_dump(json.loads(path.read_text())))
        path.unlink()
    after = open_bundle(tiny_bundle)
    assert (after.labels, after.channels, after.mirror_axes) == (before.labels, before.channels, before.mirror_axes)
    assert [type(step) for step in after.preprocessing.transforms] == [
        type(step) for step in before.preprocessing.transforms
    ]


def test_a_key_that_goes_deeper_is_taken_as_monai_takes_it(tiny_bundle):
    change_json(tiny_bundle / "configs" / "inference.json", lambda config: config.update({"inferer::overlap": 0.125}))
    assert open_bundle(tiny_bundle).inferer.overlap == 0.125


@pytest.mark.parametrize("kind", [torch.complex64, torch.int8])
def test_weights_of_another_kind_of_number_are_refused(tiny_bundle, kind):
    def change(state):
        first = next(iter(state))
        state[first] = state[first].to(kind)

    change_weights(tiny_bundle, change)
    with pytest.raises(BundleError, match="WEIGHTS_"):
        open_bundle(tiny_bundle)


def test_a_single_output_channel_is_a_foreground_class():
    pred = {"num_channels": 1, "channel_def": {"0": "cell"}}
    assert _labels(pred, {}) == {0: "background", 1: "cell"}
    assert _labels(pred, {"labels": {"0": "membrane", "1": "cell"}}) == {0: "membrane", 1: "cell"}


def test_labels_codes_are_read_without_the_readers_of_dicom():
    code = "import sys, medseg.bundle.load as load; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read = {name for name in run.stdout.split() if name.startswith("medseg.data.dicom.")}
    assert read <= {"medseg.data.terminology"}
    assert not {"torch", "monai", "pydicom", "highdicom"} & set(run.stdout.split())
