from dataclasses import replace

import pytest
import yaml

from medseg.bundle.settings import read_settings
from medseg.errors import UsageError


def settings_file(tmp_path, **changes):
    content = {
        "name": "ball_segmentation",
        "title": "Ball",
        "description": "d",
        "intended_use": "u",
        "modality": "MR",
        "channels": ["T1"],
        "labels": {0: "background", 1: "ball"},
        "data_source": "s",
        "patch_voxels": [16, 16, 16],
        "intensity": {"kind": "z-score"},
        "network": {"name": "unet"},
    }
    path = tmp_path / "ball.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**content, **changes}.items() if v is not None}))
    return path


def test_settings_are_read_with_their_defaults(tmp_path):
    settings = read_settings(settings_file(tmp_path))
    assert (settings.spatial_dims, settings.loss_name, settings.channels) == (3, "dice-ce", ("T1",))


def test_a_mistyped_key_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN: epocs.*did you mean epochs"):
        read_settings(settings_file(tmp_path, epocs=3))


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(UsageError, match="SETTING_MISSING.*modality"):
        read_settings(settings_file(tmp_path, modality=None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "ball"),
        ("labels", {0: "background", 2: "ball"}),
        ("patch_voxels", (16,)),
        ("intensity", {"kind": "magic"}),
        ("sampling", "sometimes"),
        ("network", {}),
        ("activation", "relu"),
        ("label_values", {255: 3}),
        ("slicewise", True),
        ("shipped", "small"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(tiny_settings, key, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID.*{key}"):
        replace(tiny_settings, **{key: value})


def test_a_form_changes_some_settings_and_parts_of_the_network(tiny_settings):
    forms = {"small": {"epochs": 1, "network": {"filters": 2}}}
    form = replace(tiny_settings, forms=forms).form("small")
    assert (form.epochs, form.network) == (1, {"name": "unet", "filters": 2, "depth": 2})
    assert form.labels == tiny_settings.labels


def test_settings_may_build_on_shared_ones(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "recipe.yaml").write_text("epochs: 7\nloss_name: focal\n")
    settings = read_settings(settings_file(tmp_path, extends="recipe", loss_name="dice"))
    assert (settings.epochs, settings.loss_name) == (7, "dice")


def test_a_mistyped_key_in_a_form_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN.*epochs"):
        read_settings(settings_file(tmp_path, forms={"small": {"epocs": 3}}))
