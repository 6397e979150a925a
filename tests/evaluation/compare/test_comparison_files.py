import io
import json

import numpy as np
import pytest
from PIL import Image

from medseg.evaluation.compare.comparison_files import draw_pictures, write_comparison
from medseg.evaluation.compare.gather import gather
from medseg.evaluation.figures import gallery
from tests.conftest import save_nifti
from tests.evaluation.run_folders import make_run

CASES = ("case0", "case1", "case2")


def block(end):
    """A mask of a ball and a stick, of which the ball reaches up to ``end``."""
    array = np.zeros((8, 8, 2), np.uint8)
    array[1:end, 1:4], array[2:6, 5:7] = 1, 2
    return array


TRUE = {case: block(7) for case in CASES}


@pytest.fixture
def data(tmp_path):
    for case, array in TRUE.items():
        save_nifti(array * 10.0, tmp_path / "data" / "images" / f"{case}.nii.gz")
        save_nifti(array, tmp_path / "data" / "labels" / f"{case}.nii.gz")
    return tmp_path / "data"


@pytest.fixture
def runs(tmp_path, data):
    """Two rows, of which each case is a little worse than the one before."""
    found = {case: block(7 - number) for number, case in enumerate(CASES)}
    for name, masks in (("one", found), ("two", TRUE)):
        told_of(make_run(tmp_path / "runs" / name, masks, TRUE), data)
    return tmp_path / "runs"


def told_of(run, data):
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": str(data)}))


def drawn_texts(monkeypatch, comparison, data=None):
    """What the figure of examples says, and the figure's pictures."""
    seen = []
    draw = gallery.draw_networks
    monkeypatch.setattr(gallery, "draw_networks", lambda *words: seen.append(draw(*words)) or seen[-1])
    pictures = draw_pictures(comparison, data)
    return seen[0], pictures


def test_every_row_has_a_column_and_cases_go_from_the_best_to_the_worst(runs, monkeypatch):
    figure, pictures = drawn_texts(monkeypatch, gather([runs]))
    assert [text.get_text() for text in figure.texts] == ["image", "truth", "one", "two"]
    assert [axes.get_title("left").split(";")[0] for axes in figure.axes[::4]] == list(CASES)
    assert Image.open(io.BytesIO(pictures.examples)).format == "PNG"
    assert not pictures.left_out


def test_cases_of_all_folds_are_in_one_column(tmp_path, data, monkeypatch):
    for row in ("one", "two"):
        for number, case in enumerate(CASES[:2], start=1):
            run = tmp_path / "runs" / row / f"fold{number}"
            alone = {case: TRUE[case]}
            told_of(make_run(run, alone, alone, fold=f"fold {number} of 2", part="validation"), data)
    figure, _ = drawn_texts(monkeypatch, gather([tmp_path / "runs"]))
    assert [axes.get_title("left").split(";")[0] for axes in figure.axes[::4]] == list(CASES[:2])


def test_the_picture_is_on_the_page_and_beside_it_the_same_each_time(runs, tmp_path):
    for name in ("out", "again"):
        files = write_comparison(gather([runs]), tmp_path / name)
        assert [path.name for path in files] == [f"comparison.{end}" for end in ("csv", "json", "html", "png")]
    for path in files:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    assert (tmp_path / "out" / "comparison.html").read_text().count("data:image/png") == 1 + len(gather([runs]).rows)


def test_without_the_data_the_page_says_what_is_left_out_and_why(runs, data, tmp_path):
    write_comparison(gather([runs]), tmp_path / "out")
    data.rename(tmp_path / "moved")
    files = write_comparison(gather([runs]), tmp_path / "out")
    assert not (tmp_path / "out" / "comparison.png").exists()
    assert (tmp_path / "out" / "comparison.png") not in files
    (line,) = (line for line in files[2].read_text().splitlines() if "Left out" in line)
    assert str(data) in line
    assert write_comparison(gather([runs]), tmp_path / "out", tmp_path / "moved")[-1].name == "comparison.png"


@pytest.mark.parametrize("name", ["masks", "labels"])
def test_masks_and_references_that_are_gone_are_told(runs, data, tmp_path, name):
    place = runs / "two" / "work" if name == "masks" else data
    (place / name).rename(tmp_path / "gone")
    pictures = draw_pictures(gather([runs]))
    assert not pictures.examples
    assert pictures.left_out


def test_a_run_that_names_no_data_leaves_the_picture_out(tmp_path):
    make_run(tmp_path / "one", TRUE, TRUE)
    assert draw_pictures(gather([tmp_path])).left_out.startswith("RUN_NOT_FOUND")
