"""A bundle names the coarse bundle that finds where to look in plain words, inside itself or shipped."""

from dataclasses import replace

import pytest

from medseg.bundle.load import (
    MARGIN_MM,
    check_fits,
    count_image_axes,
    find_locator,
    open_bundle,
    place_locator,
    read_locator,
)
from medseg.errors import BundleError


def code_of(call, *arguments) -> str:
    with pytest.raises(BundleError) as caught:
        call(*arguments)
    return caught.value.code


def test_no_locator_is_named_and_the_margin_is_the_usual_one_where_nothing_is_said():
    assert read_locator({}, "inference.json") == (None, MARGIN_MM)
    assert read_locator({"locator": None, "locator_margin_mm": 0}, "inference.json") == (None, 0.0)


def test_name_and_margin_are_taken_as_they_stand():
    assert read_locator({"locator": "coarse", "locator_margin_mm": 7}, "inference.json") == ("coarse", 7.0)


@pytest.mark.parametrize(
    "config",
    [{"locator": "$print(1)"}, {"locator": "%base"}, {"locator": ["a"]}, {"locator_margin_mm": 10_001}],
    ids=str,
)
def test_expressions_and_impossible_margins_are_refused_with_the_file(config):
    with pytest.raises(BundleError, match="inference.json") as caught:
        read_locator(config, "inference.json")
    assert caught.value.code == "BUNDLE_UNREADABLE"


def test_a_locator_lies_below_the_bundle(tmp_path):
    root = tmp_path / "bundle"
    assert place_locator(root, "coarse") == root / "coarse"
    assert place_locator(root, "below/../coarse") == root / "coarse"
    for name in ("..", ".", "", "../bundle", str(tmp_path)):
        assert code_of(place_locator, root, name) == "BUNDLE_UNREADABLE"


def test_the_folder_inside_comes_before_a_shipped_bundle_of_that_name(tmp_path):
    name = "hippocampus_mr_segmentation"
    shipped = find_locator(tmp_path, name)
    assert shipped.name == name
    assert tmp_path not in shipped.parents
    (tmp_path / name / "configs").mkdir(parents=True)
    assert find_locator(tmp_path, name) == tmp_path / name
    assert code_of(find_locator, tmp_path, "absent") == "BUNDLE_NOT_FOUND"


def test_a_locator_takes_the_images_of_its_bundle(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    check_fits(bundle, bundle)
    assert count_image_axes(bundle) == 3
    for other in (
        replace(bundle, channels=("T1", "T2")),
        replace(bundle, spatial_dims=2),
        replace(bundle, is_hounsfield=not bundle.is_hounsfield),
    ):
        assert code_of(check_fits, other, bundle) == code_of(check_fits, bundle, other) == "LOCATOR_UNFIT"
