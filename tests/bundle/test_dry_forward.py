import json

import pytest
import torch
from torch import nn

from medseg.bundle.config import read_forms
from medseg.bundle.trust import SECTIONS
from medseg.bundle.verify import ANY_SIZE, MOST_VOXELS, build_sections, check_weights, size_of, try_networks


def base_of(bundle):
    return read_forms(bundle)[0][0]


def change(bundle, name, change_it):
    path = bundle / "configs" / f"{name}.json"
    config = json.loads(path.read_text())
    change_it(config)
    path.write_text(json.dumps(config))
    return base_of(bundle)


def codes(found):
    return [finding.code for finding in found]


@pytest.mark.parametrize(
    ("axis", "size"),
    [(96, 96), ("96", 96), ("*", ANY_SIZE), ("16*n", 16), ("2**p*3", 6), ("8*n - 2", 6), ("n + p", 2)],
)
def test_a_size_is_the_smallest_that_its_expression_gives(axis, size):
    assert size_of(axis) == size


@pytest.mark.parametrize(
    "axis", [0, -8, "0*n", "n - 1", "q", "8/n", "n if n else 2", "__import__('os')", "2**40", MOST_VOXELS + 1, 1.5]
)
def test_what_is_no_size_is_refused_and_not_run(axis):
    with pytest.raises((ValueError, SyntaxError)):
        size_of(axis)


def test_a_long_expression_and_a_high_power_are_refused_without_being_calculated():
    with pytest.raises(ValueError, match="short"):
        size_of("1" + "+1" * 30)
    with pytest.raises(ValueError, match="out of range"):
        size_of("9**99")


def test_a_sound_bundle_gives_its_network_and_no_finding(tiny_bundle):
    found, network = try_networks(base_of(tiny_bundle))
    assert found == []
    assert isinstance(network, nn.Module)


def test_all_sections_are_built_and_each_that_is_not_is_told(tiny_bundle):
    base = change(tiny_bundle, "inference", lambda config: config["inferer"].update(roi="8"))
    built, found = build_sections(base.configs["inference"], base.files["inference"])
    assert set(built) == set(SECTIONS) - {"inferer"}
    assert [(finding.code, finding.place.rpartition(": ")[2]) for finding in found] == [
        ("BUNDLE_UNREADABLE", "inferer")
    ]


def test_a_section_that_is_not_there_is_told_and_the_others_are_built(tiny_bundle):
    base = change(tiny_bundle, "inference", lambda config: config.pop("postprocessing"))
    built, found = build_sections(base.configs["inference"], base.files["inference"])
    assert codes(found) == ["BUNDLE_INCOMPLETE"]
    assert set(built) == {"network_def", "inferer", "preprocessing"}


def test_windows_of_other_axes_than_the_image_has_are_told(tiny_bundle):
    base = change(tiny_bundle, "inference", lambda config: config["inferer"].update(roi_size=[16, 16]))
    assert codes(try_networks(base)[0]) == ["BUNDLE_SHAPES"]


def test_the_trained_network_is_tried_where_it_is_another_one(tiny_bundle):
    def halve(config):
        config["network_def"]["out_channels"] = 3

    found, _ = try_networks(change(tiny_bundle, "train", halve))
    assert codes(found) == ["BUNDLE_SHAPES"]
    assert "(1, 3, 8, 8, 8)" in found[0].problem


def test_a_patch_that_is_too_large_to_be_tried_is_told(tiny_bundle):
    def widen(config):
        for side, name in (("inputs", "image"), ("outputs", "pred")):
            config["network_data_format"][side][name]["spatial_shape"] = [1024] * 3

    found, _ = try_networks(change(tiny_bundle, "metadata", widen))
    assert codes(found) == ["BUNDLE_SHAPES"]
    assert "voxels" in found[0].problem


def test_metadata_that_say_too_little_leave_the_network_untried(tiny_bundle):
    base = change(tiny_bundle, "metadata", lambda config: config.pop("network_data_format"))
    found, network = try_networks(base)
    assert (found, isinstance(network, nn.Module)) == ([], True)


def test_weights_are_held_against_the_network_only_where_it_could_be_built(tiny_bundle):
    base = base_of(tiny_bundle)
    _, network = try_networks(base)
    assert list(check_weights(tiny_bundle, base, network)) == []
    torch.save({"other": torch.zeros(1)}, tiny_bundle / "models" / "model.pt")
    assert codes(check_weights(tiny_bundle, base, network)) == ["WEIGHTS_MISMATCH"]
    assert list(check_weights(tiny_bundle, base, None)) == []
