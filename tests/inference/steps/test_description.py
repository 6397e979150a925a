import copy
import json
from dataclasses import replace

import pytest

from medseg.data.terminology import Code, Term
from medseg.errors import BundleError
from medseg.inference.prediction import is_exported
from medseg.inference.steps.description import Description, read_description, write_description
from medseg.inference.windows import WindowPlan

PLAN = WindowPlan((16, 16, 1), (0.5, 0.25, 0.0), 4, "gaussian", (0.125,) * 3, "constant", 0.0, 2)
TERM = Term(Code("123037004", "SCT", "Anatomical Structure"), Code("10200004", "SCT", "Liver"), colour=(1, 2, 3))
DESCRIPTION = Description(
    name="liver_segmentation",
    version="0.2.0",
    weights_sha256="ab" * 32,
    to="openvino",
    channels=("CT",),
    labels={0: "background", 1: "liver"},
    preprocessing=({"step": "Orientation", "axcodes": "RAS"}, {"step": "Resize", "spatial_size": [16, 16, -1]}),
    window=PLAN,
    activation="softmax",
    threshold=None,
    later=({"step": "KeepLargest", "labels": [1]},),
    terms={1: TERM},
)


@pytest.fixture
def folder(tmp_path):
    for name in ("network.xml", "network.bin"):
        (tmp_path / name).write_bytes(name.encode())
    write_description(DESCRIPTION, tmp_path)
    return tmp_path


def test_a_description_is_read_as_it_was_written(folder):
    read = read_description(folder)
    assert sorted(read.files) == ["network.bin", "network.xml"]
    assert replace(read, files={}) == DESCRIPTION
    assert read.window.network_roi == (16, 16)


def test_a_folder_with_a_description_is_an_exported_bundle_and_no_other(folder, tmp_path_factory):
    assert is_exported(folder)
    assert not is_exported(tmp_path_factory.mktemp("empty"))
    assert not is_exported("phantom_ct_segmentation")


def put(content, *path_and_value):
    *path, key, value = path_and_value
    for part in path:
        content = content[part]
    content[key] = value


WRONG = {
    "another format": ("format", 2),
    "an unknown target": ("to", "coreml"),
    "an unknown step": ("preprocessing", [{"step": "Blur"}]),
    "a step without its parameters": ("preprocessing", [{"step": "Resize"}]),
    "a step that is no table": ("preprocessing", ["Resize"]),
    "an unknown step on labels": ("later", [{"step": "FillHoles"}]),
    "labels with a gap": ("labels", {"0": "background", "2": "liver"}),
    "a softmax with a threshold": ("threshold", 0.5),
    "no channel": ("channels", []),
    "a window without voxels": ("window", "roi", [16, 0, 1]),
    "an overlap of a whole window": ("window", "overlap", [1.0, 0, 0]),
    "a window with more than it has": ("window", "stride", 3),
    "an unknown padding": ("window", "padding_mode", "magic"),
    "slices across no axis": ("window", "slice_axis", 3),
    "a batch of text": ("window", "batch", "4"),
    "terms that are none": ("terminology", {"1": {"category": "x"}}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_description_that_medseg_does_not_write_is_refused(folder, name):
    content = json.loads((folder / "exported.json").read_text())
    put(content, *copy.deepcopy(WRONG[name]))
    (folder / "exported.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        read_description(folder)
    assert caught.value.code == "EXPORT_UNREADABLE"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 1}'])
def test_a_file_that_is_no_description_is_refused(folder, text):
    (folder / "exported.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        read_description(folder)
    assert caught.value.code == "EXPORT_UNREADABLE"


def test_network_files_that_are_missing_or_changed_are_refused(folder):
    (folder / "network.bin").write_bytes(b"other weights")
    with pytest.raises(BundleError) as caught:
        read_description(folder)
    assert caught.value.code == "EXPORT_ALTERED"
    (folder / "network.bin").unlink()
    with pytest.raises(BundleError) as caught:
        read_description(folder)
    assert caught.value.code == "EXPORT_ALTERED"
