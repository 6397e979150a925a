"""Colours, names and canvases that all figures share."""

from medseg.evaluation.figures.drawing import (
    class_colours,
)


def test_24_classes_have_24_colours():
    assert len(set(class_colours(dict.fromkeys(range(25), "")).values())) == 24
