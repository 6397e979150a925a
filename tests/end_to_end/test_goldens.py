"""The command line on made scans gives what it gave: masks, scores, findings and refusals in a few numbers."""

from __future__ import annotations

import copy

import pytest

from tests.conftest import ROOT
from tools.golden_values import read_values, value_differences
from tools.goldens import KEPT_VALUES, SCENES, SCENES_OF_VALUES, values_of


@pytest.mark.slow
def test_the_command_line_gives_the_values_that_were_kept(tmp_path):
    kept, now = read_values(KEPT_VALUES), values_of(ROOT, tmp_path)
    found = {scene: value_differences(kept[scene], now[scene]) for scene in kept}
    assert {scene: lines for scene, lines in found.items() if lines} == {}
    assert now.keys() == kept.keys()


def test_the_kept_values_are_of_every_quick_scene_and_say_something():
    kept = read_values(KEPT_VALUES)
    assert sorted(kept) == sorted(SCENES_OF_VALUES)
    assert {scene.name for scene in SCENES} >= kept.keys()
    assert all(values["voxels"] or values["scores"] or any(values["codes"].values()) for values in kept.values())


@pytest.mark.parametrize("name", SCENES_OF_VALUES)
def test_other_values_are_seen_in_every_scene(name):
    kept = read_values(KEPT_VALUES)[name]
    assert value_differences(kept, copy.deepcopy(kept)) == []
    for part in kept:
        if not kept[part]:
            continue
        changed = copy.deepcopy(kept)
        if part == "records":
            changed[part].append("another.json")
        elif part in ("voxels", "scores"):
            place = max(changed[part])
            changed[part][place] = {key: float(value or 0) * 1.1 + 9 for key, value in changed[part][place].items()}
            if not changed[part][place]:
                changed[part][place] = {"1": 1}
        else:
            changed[part].pop(max(changed[part]))
        assert value_differences(kept, changed), part
