import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from jinja2 import FileSystemLoader, UndefinedError
from matplotlib.figure import Figure
from PIL import Image

import medseg
from medseg.errors import InputError, OutputError
from medseg.evaluation import html_report as frame
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.figures.score_plots import score_box_plot
from medseg.evaluation.html_report import illustrate, make_data_uri, make_page, write_report
from medseg.options import EvaluateOptions

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def evaluation(tmp_path):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:2] = 1
    for folder in ("masks", "references"):
        (tmp_path / folder).mkdir()
        for case in ("<b>bold", "plain"):
            nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / folder / f"{case}.nii.gz")
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "references" / "lost.nii.gz")
    (tmp_path / "masks" / "plain.nii.gz").write_bytes(b"broken")
    return evaluate(
        tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(labels={1: "<script>alert(1)</script>"})
    )


def test_the_page_holds_everything_and_loads_nothing(evaluation, tmp_path):
    pictures = {"https://example.org <i>": PNG, "drawn": score_box_plot({"a": [0.5]})}
    path = write_report(evaluation, pictures, tmp_path / "report.html", title="A & B")
    text = path.read_text()
    page = Page(text)
    # Box plot, three figures of scores and both pictures.
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in page.sources)
    assert not {"script", "link", "iframe", "object", "i>"} & set(page.tags)
    assert not re.search(r"url\(|@import", text)
    words = " ".join(page.words)
    assert "A & B" in words
    assert all(sentence in words for sentence in evaluation.policy)
    assert evaluation.counted in words and evaluation.errors[0].problem in words


def test_names_of_cases_and_classes_are_escaped(evaluation, tmp_path):
    text = write_report(evaluation, {"<b>": PNG}, tmp_path / "report.html").read_text()
    assert "&lt;b&gt;bold" in text and "<b>bold" not in text
    assert "&lt;script&gt;alert(1)" in text and "<script" not in text


def test_the_numbers_are_those_of_the_evaluation(evaluation, tmp_path):
    words = " ".join(Page(write_report(evaluation, {}, tmp_path / "report.html").read_text()).words).split()
    summary = next(s for s in evaluation.summaries if s.value == 1)
    assert f"{summary.metrics['dice'].mean:.3f}" == "0.500" in words
    assert f"{summary.metrics['iou'].pooled:.3f}" in words


def test_the_same_evaluation_gives_the_same_page(evaluation, tmp_path):
    first, second = (write_report(evaluation, {"a": PNG}, tmp_path / name) for name in ("1.html", "2.html"))
    assert first.read_bytes() == second.read_bytes()


def test_an_evaluation_without_pictures_or_scores_is_a_page_too(tmp_path, evaluation):
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(b"broken")
    nothing = evaluate(tmp_path / "masks", tmp_path / "references", options=EvaluateOptions(missing="skip"))
    page = Page(write_report(nothing, {}, tmp_path / "report.html").read_text())
    assert "img" not in page.tags
    assert not {"Examples", "Scores", "Training"} & set(page.words)


def test_a_page_that_cannot_be_written_is_an_output_error(evaluation, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError):
        write_report(evaluation, {}, tmp_path / "report.html")


@pytest.fixture
def ranked_cases(tmp_path):
    """Five cases: the higher the number, the more of the structure is found; 4 lies on its image flipped."""
    for case in range(5):
        reference, mask = np.zeros((6, 5, 4), np.uint8), np.zeros((6, 5, 4), np.uint8)
        reference[:5], mask[: case + 1] = 1, 1
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        turned = affine.copy()
        turned[0] = [-1, 0, 0, 5]
        files = [("images", reference * 100.0, affine), ("references", reference, affine), ("masks", mask, affine)]
        if case == 4:
            files[2] = ("masks", mask[::-1], turned)
        for folder, array, grid in files:
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array.astype(np.float32), grid), tmp_path / folder / f"case{case}.nii.gz")
    return tmp_path / "images", tmp_path / "masks", tmp_path / "references"


def overlaid(pictures):
    return [caption.split()[0] for caption in pictures if caption.startswith("case")]


def test_rows_come_first_and_then_the_best_the_middle_and_the_worst_volume(ranked_cases):
    images, masks, references = ranked_cases
    pictures = illustrate(evaluate(masks, references), images, masks, references)
    assert next(iter(pictures)) == "Best, in-between and worst cases"
    assert overlaid(pictures) == ["case4", "case2", "case0"]
    assert list(pictures)[-1] == "case0 (worst, mean foreground Dice 0.333)"


def test_the_next_case_stands_in_for_one_without_a_usable_image(ranked_cases):
    images, masks, references = ranked_cases
    evaluation = evaluate(masks, references)
    (images / "case0.nii.gz").write_bytes(b"broken")
    (images / "case4.nii.gz").unlink()
    pictures = illustrate(evaluation, images, masks, references, most=9)
    assert overlaid(pictures) == ["case3", "case2", "case1"]


def test_where_no_image_can_be_read_there_is_no_picture(ranked_cases):
    images, masks, references = ranked_cases
    evaluation = evaluate(masks, references)
    for path in images.iterdir():
        path.write_bytes(b"broken")
    assert illustrate(evaluation, images, masks, references) == {}


def test_a_run_adds_its_training_to_the_page(evaluation, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    with pytest.raises(InputError):
        write_report(evaluation, {}, tmp_path / "report.html", run=tmp_path / "run")
    (tmp_path / "run" / "logs" / "epochs.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    page = Page(write_report(evaluation, {}, tmp_path / "report.html", run=tmp_path / "run").read_text())
    assert "Training" in page.words and "Scores" in page.words
    assert len(page.sources) == 5


def test_a_picture_stands_in_the_page_itself():
    kind, _, coded = make_data_uri(Figure(figsize=(1, 1))).partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(BytesIO(base64.b64decode(coded))).format == "PNG"
    assert base64.b64decode(make_data_uri(b"png").partition(",")[2]) == b"png"


def test_a_page_with_content_left_out_is_an_error():
    with pytest.raises(UndefinedError):
        make_page("report.html", (), title="T")


def test_every_page_ends_with_how_its_numbers_were_made_and_by_what(tmp_path, monkeypatch):
    (tmp_path / "bare.html").write_text('{% extends "page.html" %}')
    loader = FileSystemLoader([tmp_path, Path(frame.__file__).parent])
    monkeypatch.setattr(frame, "FileSystemLoader", lambda _: loader)
    text = make_page("bare.html", ("Mean over <cases>.",), {"masks": "a & b"})
    assert "Mean over &lt;cases&gt;." in text
    assert "<dt>masks</dt><dd>a &amp; b</dd>" in text
    assert f"<dt>medseg</dt><dd>{medseg.__version__}</dd>" in text
