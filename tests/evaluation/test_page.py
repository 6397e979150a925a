import base64
from io import BytesIO
from pathlib import Path

import pytest
from jinja2 import FileSystemLoader, UndefinedError
from matplotlib.figure import Figure
from PIL import Image

import medseg
from medseg.evaluation import page as frame
from medseg.evaluation.page import data_uri, page


def test_a_picture_stands_in_the_page_itself():
    kind, _, coded = data_uri(Figure(figsize=(1, 1))).partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(BytesIO(base64.b64decode(coded))).format == "PNG"
    assert base64.b64decode(data_uri(b"png").partition(",")[2]) == b"png"


def test_a_page_with_content_left_out_is_an_error():
    with pytest.raises(UndefinedError):
        page("report.html", (), title="T")


def test_every_page_ends_with_how_its_numbers_were_made_and_by_what(tmp_path, monkeypatch):
    (tmp_path / "bare.html").write_text('{% extends "page.html" %}')
    loader = FileSystemLoader([tmp_path, Path(frame.__file__).parent])
    monkeypatch.setattr(frame, "FileSystemLoader", lambda _: loader)
    text = page("bare.html", ("Mean over <cases>.",), {"masks": "a & b"})
    assert "Mean over &lt;cases&gt;." in text
    assert "<dt>masks</dt><dd>a &amp; b</dd>" in text
    assert f"<dt>medseg</dt><dd>{medseg.__version__}</dd>" in text
