import io
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from medseg.evaluation.figures.cases import class_colours, overlay, score_box_plot, to_png

LABELS = {0: "background", 1: "liver", 2: "$umour_", 3: "_hidden"}
SPACING = (1.0, 1.0, 4.0)


@pytest.fixture
def masks():
    reference = np.zeros((20, 16, 6), np.uint8)
    reference[4:14, 4:12, 1:5] = 1
    reference[6:9, 6:9, 2:4] = 2
    return reference, np.roll(reference, 2, axis=0)


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_volume_is_three_planes_beside_image_reference_and_prediction(masks):
    figure = overlay(np.random.default_rng(0).normal(size=masks[0].shape), *masks, LABELS, SPACING)
    assert len(figure.axes) == 9
    assert [text.get_text() for text in figure.texts] == ["image", "reference", "prediction (white line: reference)"]
    assert texts_of(figure) == [*"RLAP" * 3, *"RLSI" * 3, *"APSI" * 3]
    assert legend_of(figure) == ["liver", r"\$umour_", "hidden"]


def test_without_a_reference_there_are_two_columns(masks):
    figure = overlay(np.zeros(masks[0].shape), None, masks[1], LABELS, SPACING)
    assert len(figure.axes) == 6
    assert [text.get_text() for text in figure.texts] == ["image", "prediction"]


def test_a_picture_is_one_row_without_letters(masks):
    figure = overlay(np.zeros((3, 20, 16)), masks[0][..., 2], masks[1][..., 2], LABELS, (1.0, 1.0))
    assert len(figure.axes) == 3
    assert texts_of(figure) == []


def test_an_empty_mask_is_drawn_without_complaint():
    empty = np.zeros((5, 5, 5), int)
    assert len(overlay(empty, empty, empty, {}, SPACING).axes) == 9


def test_planes_keep_their_proportions_in_millimetres(masks):
    figure = overlay(np.zeros(masks[0].shape), *masks, LABELS, SPACING)
    for axes, (width, height) in zip(figure.axes[::3], [(20, 16), (20, 24), (16, 24)], strict=True):
        assert axes.images[0].get_extent() == [0, width, height, 0]
        assert axes.get_aspect() == 1


def test_no_text_or_panel_lies_on_another(masks):
    labels = {value: f"a structure with a long name {value}" for value in range(8)}
    figure = overlay(np.zeros(masks[0].shape), *masks, labels, SPACING)
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [axes.title.get_window_extent() for axes in figure.axes if axes.title.get_text()]
    boxes += [axes._left_title.get_window_extent() for axes in figure.axes if axes._left_title.get_text()]
    boxes += [text.get_window_extent() for text in figure.texts]
    boxes += [figure.legends[0].get_window_extent()]
    whole = figure.bbox
    for index, box in enumerate(boxes):
        assert whole.x0 - 1 <= box.x0 and box.x1 <= whole.x1 + 1 and whole.y0 - 1 <= box.y0 and box.y1 <= whole.y1 + 1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_values_without_a_name_are_drawn_and_named(masks):
    assert legend_of(overlay(np.zeros(masks[0].shape), *masks, {1: "liver"}, SPACING)) == ["liver", "value 2"]


def test_of_many_labels_only_those_in_the_planes_are_listed(masks):
    labels = {value: f"organ {value}" for value in range(60)}
    assert legend_of(overlay(np.zeros(masks[0].shape), *masks, labels, SPACING)) == ["organ 1", "organ 2"]


def test_a_class_has_its_colour_in_every_picture(masks):
    rgb = to_rgb(class_colours(LABELS)[2])
    figure = overlay(np.zeros(masks[0].shape), *masks, LABELS, SPACING)
    for axes in (figure.axes[1], figure.axes[2]):
        fill = np.asarray(axes.images[1].get_array())
        assert {tuple(pixel) for pixel in fill[fill[..., 3] > 0][:, :3].round(6)} >= {tuple(np.round(rgb, 6))}


def test_24_classes_have_24_colours():
    assert len(set(class_colours(dict.fromkeys(range(25), "")).values())) == 24


def test_the_png_is_a_picture_and_the_same_each_time(masks):
    def draw():
        return to_png(overlay(np.zeros(masks[0].shape), *masks, LABELS, SPACING), dpi=40)

    assert Image.open(io.BytesIO(draw())).format == "PNG"
    assert draw() == draw()


def test_the_box_plot_shows_quartiles_and_counts_without_nan():
    figure = score_box_plot({"liver": [0.5, 0.6, 0.7, 0.8, 0.9, math.nan], "spleen": [math.nan]})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["liver  (n = 5)", "spleen  (n = 0)"]
    (box,) = axes.patches
    assert (box.get_x(), box.get_width()) == pytest.approx((0.6, 0.2))
    (points,) = (c for c in axes.collections if len(c.get_offsets()) == 5)
    assert sorted(points.get_offsets()[:, 0]) == [0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_box_plot_of_nothing_is_empty():
    assert not score_box_plot({}).axes[0].patches
