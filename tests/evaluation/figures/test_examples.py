import io

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from medseg.errors import GridError, InputError
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.figures.drawing import FILL_OPACITY, pick_class_colours, to_png
from medseg.evaluation.figures.examples import class_columns, example_rows, networks_side_by_side, overlay
from medseg.options import EvaluateOptions

POLYP = {0: "background", 1: "polyp"}
HEART = {0: "background", 1: "right ventricle", 2: "muscle", 3: "left ventricle"}


def fills(axes):
    """Colours of the class pixels that are drawn over an image, and how many there are of each."""
    pixels = np.asarray(axes.images[1].get_array()).reshape(-1, 4)
    colours, counts = np.unique(pixels[pixels[:, 3] > 0].round(4), axis=0, return_counts=True)
    return dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))


def fill(value, labels):
    return tuple(np.round((*to_rgb(pick_class_colours(labels)[value]), FILL_OPACITY), 4).tolist())


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes if axes.get_title("left")]


@pytest.fixture
def frames(tmp_path):
    """Seven colour frames; the n-th mask holds n of the truth's eight columns, in the second folder all."""
    rng = np.random.default_rng(0)
    for number in range(1, 8):
        truth, mask = np.zeros((10, 12), np.uint8), np.zeros((10, 12), np.uint8)
        truth[2:8, 2:10], mask[2:8, 2 : 2 + number] = 255, 255
        colours = rng.integers(0, 255, (10, 12, 3), dtype=np.uint8)
        for folder, array in (("images", colours), ("references", truth), ("U-Net", mask), ("Res-UNet", truth)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"frame{number}.png")
    return tmp_path


@pytest.fixture
def judged(frames):
    return evaluate(frames / "U-Net", frames / "references", options=EvaluateOptions(labels=POLYP), progress=False)


def rows_of(frames, judged, **options):
    return example_rows(judged, frames / "images", frames / "U-Net", frames / "references", **options)


def test_best_in_between_and_worst_are_rows_of_image_truth_and_prediction(frames, judged):
    figure = rows_of(frames, judged, count=1)
    assert [text.get_text() for text in figure.texts] == ["image", "truth", "prediction"]
    assert [title.split(",")[0] for title in titles(figure)] == [
        "best: frame7",
        "in between: frame4",
        "worst: frame1",
    ]
    assert "Dice 0.933" in titles(figure)[0]
    image, truth, prediction = figure.axes[:3]
    assert len(image.images) == 1
    assert fills(truth) == {fill(1, POLYP): 48} and fills(prediction) == {fill(1, POLYP): 42}


def test_frames_are_drawn_in_their_colours(frames, judged):
    drawn = np.asarray(rows_of(frames, judged, count=1).axes[0].images[0].get_array())
    colours = np.asarray(Image.open(frames / "images" / "frame7.png"))
    np.testing.assert_allclose(drawn, colours / 255)


def test_three_of_each_kind_need_nine_cases(frames, judged):
    assert len(titles(rows_of(frames, judged, count=3))) == 6


def test_cases_without_image_or_mask_are_passed_over(frames, judged):
    (frames / "images" / "frame7.png").unlink()
    (frames / "U-Net" / "frame1.png").unlink()
    shown = titles(rows_of(frames, judged, count=1))
    assert [title.split(",")[0].split()[-1] for title in shown] == ["frame6", "frame4", "frame2"]


def test_a_part_alone_can_be_shown(frames):
    judged = evaluate(
        frames / "U-Net",
        frames / "references",
        options=EvaluateOptions(labels=POLYP, held_out=["frame3"]),
        progress=False,
    )
    (title,) = titles(rows_of(frames, judged, part="test"))
    assert title.startswith("best of test: frame3")


def test_without_anything_to_draw_there_is_an_error(frames, judged):
    with pytest.raises(InputError) as caught:
        rows_of(frames, judged, part="validation")
    assert caught.value.code == "EXAMPLES_NONE"


@pytest.fixture
def heart(tmp_path):
    """A volume of thick slices with three classes, all three largest in slice 2 of 4 and stored right to left."""
    truth = np.zeros((12, 10, 4), np.uint8)
    truth[1:3, 2:8, 1] = 1
    truth[4:6, 2:8, 1] = 2
    truth[7:11, 2:8, 1] = 3
    truth[4:6, 4:6, 2] = 2
    mask = np.where(truth == 3, 0, truth).astype(np.uint8)
    image = np.arange(480, dtype=np.float32).reshape(truth.shape)
    for folder, array in (("images", image), ("references", truth), ("masks", mask)):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(array, np.diag([-1.5, 1.5, 8.0, 1.0])), tmp_path / folder / "p1.nii.gz")
    return tmp_path, image, truth, mask


def test_of_a_volume_the_slice_with_most_of_every_class_is_drawn(heart):
    folder, image, truth, _ = heart
    judged = evaluate(folder / "masks", folder / "references", options=EvaluateOptions(labels=HEART), progress=False)
    figure = example_rows(judged, folder / "images", folder / "masks", folder / "references")
    assert titles(figure) == ["best: p1, Dice 0.667; axial, slice 2 of 4"]
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(np.sort(drawn, axis=None), np.sort(image[..., 1], axis=None))
    assert fills(figure.axes[1])[fill(3, HEART)] == (truth[..., 1] == 3).sum()


def test_every_class_has_a_column_and_all_have_one_together(heart):
    _, image, truth, mask = heart
    figure = class_columns(image, truth, mask, HEART, (1.5, 1.5, 8.0))
    headings = [text.get_text() for text in figure.texts]
    assert headings == ["image", "right ventricle", "muscle", "left ventricle", "all classes"]
    above, below = figure.axes[:5], figure.axes[5:]
    assert fills(above[0]) == {}
    for column, value in enumerate((1, 2, 3), start=1):
        assert fills(above[column]) == {fill(value, HEART): (truth[..., 1] == value).sum()}
    assert fills(below[3]) == {}
    assert set(fills(above[4])) == {fill(value, HEART) for value in (1, 2, 3)}
    (wrong,) = np.unique(np.asarray(below[0].images[-1].get_array()).reshape(-1, 4)[:, 3], return_counts=True)[1][1:]
    assert wrong == (truth != mask)[..., 1].sum()


def test_of_many_classes_the_largest_have_columns():
    truth = np.repeat(np.arange(10), np.arange(1, 11))[None].repeat(4, axis=0)
    figure = class_columns(truth * 1.0, truth, truth, {value: f"organ {value}" for value in range(60)})
    headings = [text.get_text() for text in figure.texts]
    assert headings == ["image", *(f"organ {value}" for value in range(4, 10)), "all classes"]
    assert "6 largest of 9 classes" in titles(figure)[0]


def test_masks_without_any_class_are_drawn_too():
    empty = np.zeros((6, 6), np.uint8)
    assert len(class_columns(empty * 1.0, empty, empty, POLYP).axes) == 6
    assert len(class_columns(empty * 1.0, empty, empty, {}).axes) == 4


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(GridError):
        class_columns(np.zeros((6, 6)), np.zeros((6, 5), int), np.zeros((6, 6), int), POLYP)


def networks(frames, **options):
    masks = {name: frames / name for name in ("U-Net", "Res-UNet")}
    return networks_side_by_side(frames / "images", masks, frames / "references", POLYP, **options)


def test_networks_stand_side_by_side_on_the_same_cases(frames):
    figure = networks(frames, count=3)
    assert [text.get_text() for text in figure.texts] == ["image", "truth", "U-Net", "Res-UNet"]
    assert titles(figure) == ["frame7", "frame4", "frame1"]
    last = figure.axes[-4:]
    assert fills(last[1]) == fills(last[3]) == {fill(1, POLYP): 48} and fills(last[2]) == {fill(1, POLYP): 6}
    said = [[text.get_text() for text in axes.texts] for axes in last]
    assert said == [[], [], ["Dice 0.222"], ["Dice 1.000"]]


def test_the_cases_can_be_named_and_only_those_of_every_network_are_drawn(frames):
    (frames / "Res-UNet" / "frame7.png").unlink()
    assert titles(networks(frames, cases=["frame3", "frame2"])) == ["frame3", "frame2"]
    assert titles(networks(frames, count=1)) == ["frame6"]


def test_no_text_or_panel_lies_on_another(frames, judged):
    for figure in (rows_of(frames, judged, count=2), networks(frames, count=2)):
        figure.canvas.draw()
        boxes = [axes.get_window_extent() for axes in figure.axes]
        boxes += [axes._left_title.get_window_extent() for axes in figure.axes if axes.get_title("left")]
        boxes += [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_columns_whose_cut_names_are_alike_are_numbered(frames):
    names = [f"attention-res-unet_learning_rate-{rate}_filters-64" for rate in ("0.01", "0.02")]
    masks = dict.fromkeys(names, frames / "U-Net")
    figure = networks_side_by_side(frames / "images", masks, frames / "references", count=1)
    headings = [text.get_text() for text in figure.texts[2:]]
    assert len(set(headings)) == 2
    assert [heading[:2] for heading in headings] == ["1:", "2:"]


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


def test_no_text_or_panel_of_an_overlay_lies_on_another(masks):
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
    rgb = to_rgb(pick_class_colours(LABELS)[2])
    figure = overlay(np.zeros(masks[0].shape), *masks, LABELS, SPACING)
    for axes in (figure.axes[1], figure.axes[2]):
        fill = np.asarray(axes.images[1].get_array())
        assert {tuple(pixel) for pixel in fill[fill[..., 3] > 0][:, :3].round(6)} >= {tuple(np.round(rgb, 6))}


def test_the_png_is_a_picture_and_the_same_each_time(masks):
    def draw():
        return to_png(overlay(np.zeros(masks[0].shape), *masks, LABELS, SPACING), dpi=40)

    assert Image.open(io.BytesIO(draw())).format == "PNG"
    assert draw() == draw()
