import base64
from io import BytesIO

import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

from medseg.evaluation.page import data_uri, page


def test_a_picture_stands_in_the_page_itself():
    kind, _, coded = data_uri(Figure(figsize=(1, 1))).partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(BytesIO(base64.b64decode(coded))).format == "PNG"
    assert base64.b64decode(data_uri(b"png").partition(",")[2]) == b"png"


def test_a_page_with_content_left_out_is_an_error():
    with pytest.raises(UndefinedError):
        page("report.html", title="T")
