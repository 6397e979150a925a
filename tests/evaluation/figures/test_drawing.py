"""Colours, names and canvases that all figures share."""

import io

import numpy as np
import pytest
from PIL import Image

from medseg.evaluation.figures.drawing import (
    CLASS_COLOURS,
    add_median,
    count_legend_columns,
    draw_bars,
    find_classes,
    make_figure,
    make_whole_ticks,
    pick_class_colours,
    pick_colour,
    shorten_label,
    to_png,
)


def test_24_classes_have_24_colours():
    assert len(set(pick_class_colours(dict.fromkeys(range(25), "")).values())) == 24


def test_colours_after_the_last_are_lighter_and_then_darker():
    brightness = [sum(bytes.fromhex(pick_colour(index * len(CLASS_COLOURS))[1:])) for index in range(3)]
    assert brightness[1] > brightness[0] > brightness[2]
    assert pick_colour(0) == CLASS_COLOURS[0]


def test_the_background_has_no_colour_and_the_order_of_the_labels_gives_the_others():
    assert pick_class_colours({0: "background", 5: "a", 2: "b"}) == {5: CLASS_COLOURS[0], 2: CLASS_COLOURS[1]}


def test_of_many_classes_only_those_in_the_masks_are_shown():
    masks = [np.array([[0, 3]]), None]
    many = {value: f"organ {value}" for value in range(20)}
    assert list(find_classes(masks, many)) == [3]
    assert list(find_classes(masks, {1: "a", 3: "b"})) == [1, 3]
    assert find_classes(masks, {})[3][0] == "value 3"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("liver", "liver"),
        ("_hidden", "hidden"),
        ("$umour", r"\$umour"),
        ("a\nb", "a?b"),
        ("x" * 30, "x" * 30),
        ("left ventricle of the heart, dilated", "left ventricle of th…, dilated"),
        ("", ""),
    ],
)
def test_a_name_is_written_as_it_is_on_one_line_and_keeps_its_end(name, short):
    assert shorten_label(name) == short


def test_a_picture_has_its_size_and_is_the_same_each_time():
    def draw():
        return to_png(make_figure(2, 1), dpi=50)

    assert Image.open(io.BytesIO(draw())).size == (100, 50)
    assert draw() == draw()


def test_bars_count_what_lies_beyond_the_last_edge_in_the_last_bar():
    axes = make_figure(2, 2).subplots()
    draw_bars(axes, np.array([0.1, 0.6, 9.0]), np.array([0.0, 0.5, 1.0]), "black")
    assert [bar.get_height() for bar in axes.patches] == [1, 2]
    assert axes.lines[0].get_xdata()[0] == 0.6
    assert add_median("loss", np.array([]), ".3f") == "loss"


@pytest.mark.parametrize(("low", "high", "ticks"), [(0.5, 1.5, [1.0]), (0, 6, [0, 1, 2, 3, 4, 5, 6])])
def test_ticks_are_whole_numbers(low, high, ticks):
    found = [tick for tick in make_whole_ticks().tick_values(low, high) if low <= tick <= high]
    assert found == ticks


def test_a_legend_has_as_many_columns_as_names_fit():
    classes = {value: (f"a class {value}", "black") for value in range(6)}
    assert count_legend_columns(classes, 100) == 6
    assert count_legend_columns(classes, 0.1) == 1
    assert count_legend_columns({}, 5) == 1
