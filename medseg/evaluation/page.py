"""Self-contained HTML pages: one frame and style, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.records import versions


def page(template: str, policy: Sequence[str], made_from: Mapping[str, str] | None = None, **content: Any) -> str:
    """A template of this folder with its content, as text; names are escaped.

    Args:
        template: Name of its file.
        policy: How the numbers are made, in sentences.
        made_from: What went in; the versions of what computed come behind it.
        content: What else the template needs.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made_from = {**(made_from or {}), **versions()}
    return environment.get_template(template).render(policy=policy, made_from=made_from, **content)


def data_uri(picture: Figure | bytes) -> str:
    """A figure, or the bytes of a PNG, as the source of an ``img``."""
    png = picture if isinstance(picture, bytes) else to_png(picture)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
