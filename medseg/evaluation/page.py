"""Self-contained HTML pages: one frame and style, pictures inside."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from medseg.evaluation.figures.drawing import to_png


def page(template: str, **content: Any) -> str:
    """A template of this folder with its content, as text; names are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def data_uri(picture: Figure | bytes) -> str:
    """A figure, or the bytes of a PNG, as the source of an ``img``."""
    png = picture if isinstance(picture, bytes) else to_png(picture)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
