import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.errors import DatasetError, InputError, OutputError
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.figures.gallery import (
    compared_networks,
    draw_score_figures,
    draw_training_figures,
    illustrate,
    write_figures,
)
from medseg.evaluation.runs import read_parts
from medseg.options import EvaluateOptions

LABELS = {0: "background", 1: "left", 2: "right"}
EVERYTHING = {
    "epochs",
    "batch_losses",
    "iou_histogram",
    "sample_curves",
    "sample_distributions",
    "examples_train",
    "classes_train",
    "examples_test",
    "classes_test",
}


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 5.0, 1.0])), path)


@pytest.fixture
def run(tmp_path):
    """A run of four cases, two of each part scored; its data set says 4 where training and masks say 2."""
    folder, data = tmp_path / "run", tmp_path / "data"
    for number in range(4):
        truth = np.zeros((8, 8, 3), np.uint8)
        truth[1:4, 1:7, 1], truth[4:7, 1:7, 1] = 1, 2
        mask = truth.copy()
        mask[: number + 1] = 0
        part = "train" if number < 2 else "test"
        save(truth * 10.0, data / "images" / f"case{number}.nii.gz")
        save(np.where(truth == 2, 4, truth).astype(np.uint8), data / "masks" / f"case{number}.nii.gz")
        save(truth, tmp_path / "references" / f"case{number}.nii.gz")
        save(mask, folder / f"masks_{part}" / f"case{number}.nii.gz")
    for part in ("train", "test"):
        evaluate(
            folder / f"masks_{part}",
            tmp_path / "references",
            output=folder / f"scores_{part}",
            options=EvaluateOptions(labels=LABELS, missing="skip"),
            progress=False,
        )
    (folder / "logs").mkdir()
    (folder / "configs").mkdir()
    (folder / "logs" / "epochs.csv").write_text("epoch,loss,val_loss,val_mean_dice\n1,0.9,0.8,0.5\n2,0.5,0.9,0.6\n")
    (folder / "logs" / "batches.csv").write_text("epoch,part,step,loss\n1,train,1,0.9\n2,train,1,0.5\n")
    renaming = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [4], "target_labels": [2]}
    steps = {"preprocessing": {"transforms": [{"_target_": "LoadImaged", "keys": "image"}, renaming]}}
    config = {"select_by": "val_loss", "validate": steps}
    (folder / "configs" / "train.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps({"data": str(data)}))
    return folder


def test_everything_that_a_run_holds_is_drawn_in_one_call(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    written = write_figures(run, tmp_path / "figures", tmp_path / "moved")
    assert set(written.files) == EVERYTHING and not written.left_out
    for name, path in written.files.items():
        assert path == tmp_path / "figures" / f"{name}.png"
        assert Image.open(path).format == "PNG"


def test_the_best_epoch_is_the_one_that_training_kept(run):
    assert "best epoch 1 (lowest validation loss" in draw_training_figures(run)["epochs"].get_suptitle()


def test_a_log_without_batches_is_drawn_without_them(run):
    (run / "logs" / "batches.csv").unlink()
    assert list(draw_training_figures(run)) == ["epochs"]


def test_what_cannot_be_drawn_is_named_and_the_rest_is_drawn(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    (run / "logs").rename(tmp_path / "logs")
    written = write_figures(run, tmp_path / "figures")
    assert set(written.files) == {"iou_histogram", "sample_curves", "sample_distributions"}
    assert set(written.left_out) == EVERYTHING - set(written.files)
    assert all(written.left_out.values())


@pytest.fixture
def unscored(run):
    for part in ("train", "test"):
        (run / f"scores_{part}" / "cases.csv").unlink()
    return run


def test_a_run_without_scores_has_its_curves(unscored, tmp_path):
    written = write_figures(unscored, tmp_path / "figures")
    assert set(written.files) == {"epochs", "batch_losses"}
    scores = {"iou_histogram", "sample_curves", "sample_distributions"}
    assert set(written.left_out) == {*scores, "examples", "classes"}


def test_a_damaged_log_leaves_out_its_own_figure_alone(unscored, tmp_path):
    (unscored / "logs" / "batches.csv").write_text("loss\n")
    written = write_figures(unscored, tmp_path / "figures")
    assert set(written.files) == {"epochs"}
    assert written.left_out["batch_losses"].startswith("RECORD_UNREADABLE")


def test_a_figure_that_has_nothing_to_show_is_named_too(run, tmp_path):
    (run / "logs" / "batches.csv").unlink()
    for path in (*run.glob("masks_*/*"), *(tmp_path / "data" / "masks").iterdir()):
        save((np.asarray(nib.load(path).dataobj) == 1).astype(np.uint8), path)
    for path in run.glob("scores_*/cases.csv"):
        path.write_text("".join(line for line in path.open() if ",2,right," not in line))
    written = write_figures(run, tmp_path / "figures")
    assert set(written.left_out) == {"batch_losses", "classes_train", "classes_test"}
    assert set(written.files) == EVERYTHING - set(written.left_out)


def test_scores_without_a_part_in_their_folders_name_are_read_too(run):
    (run / "scores_test").rename(run / "scores")
    (run / "masks_test").rename(run / "masks")
    assert [(scored.part, scored.masks.name) for scored in read_parts(run)] == [
        ("train", "masks_train"),
        ("", "masks"),
    ]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for draw in (draw_training_figures, lambda folder: write_figures(folder, tmp_path / "figures")):
        with pytest.raises(InputError) as caught:
            draw(tmp_path)
        assert caught.value.code == "RUN_NOT_FOUND"


def test_a_damaged_record_is_named(run):
    (run / "configs" / "train.json").write_text("{")
    with pytest.raises(DatasetError) as caught:
        draw_training_figures(run)
    assert caught.value.code == "RECORD_UNREADABLE"


def test_a_folder_that_cannot_be_written_is_an_output_error(unscored, tmp_path):
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(OutputError):
        write_figures(unscored, tmp_path / "figures")


def test_runs_are_compared_on_the_same_cases_with_labels_as_training_read_them(run):
    figure = compared_networks({"one": run, "two": run}, count=2)
    assert [text.get_text() for text in figure.texts] == ["image", "truth", "one", "two"]
    assert [axes.get_title("left").split(";")[0] for axes in figure.axes[::4]] == ["case2", "case3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", "right", "white line: truth"]
    with pytest.raises(InputError) as caught:
        compared_networks({"one": run}, part="validation")
    assert caught.value.code == "RUN_NOT_FOUND"


def test_the_folds_of_a_run_share_a_column(run):
    (run / "scores_train").rename(run / "scores_validation")
    (run / "masks_train").rename(run / "masks_validation")
    other = run.with_name("other")
    shutil.copytree(run, other)
    for folder, part, case in ((run, "validation", "case0"), (other, "validation", "case1")):
        path = folder / f"scores_{part}" / "cases.csv"
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(row for row in rows if row.startswith(case)))
    figure = compared_networks({"folds": [run, other]}, part="validation")
    assert [axes.get_title("left").split(";")[0] for axes in figure.axes[::3]] == ["case0", "case1"]


def test_scores_without_a_foreground_have_no_figures():
    assert draw_score_figures([]) == {}


def test_examples_of_several_classes_come_class_by_class_too(run, tmp_path):
    judged = evaluate(
        run / "masks_test",
        tmp_path / "references",
        options=EvaluateOptions(labels=LABELS, missing="skip"),
        progress=False,
    )
    figures = illustrate(judged, tmp_path / "data" / "images", run / "masks_test", tmp_path / "references")
    captions = list(figures)
    assert captions[1].startswith("Class by class: case3")
    assert captions[2:] == ["case2 (best, mean foreground Dice 0.750)", "case3 (worst, mean foreground Dice 0.500)"]
