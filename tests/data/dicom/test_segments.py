"""Which label a segment of a file stands for, by name, code or number."""

import pytest

from medseg.bundle.settings import read_settings
from medseg.data.dicom.segments import Segment, match_labels
from medseg.data.terminology import Code, Term, list_known_names
from medseg.errors import LabelError
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "tools" / "bundle_src").glob("*.yaml"))
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
LEFT, RIGHT = Code("7771000", "SCT", "Left"), Code("24028007", "SCT", "Right")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_bundle_s_own_segments_are_recognised_by_code_alone(source):
    settings = read_settings(source)
    segments = [Segment(90 + label, "unnamed", term.key) for label, term in settings.terms.items()]
    found, notes = match_labels(segments, list_known_names(settings.labels, settings.terms), "case")
    assert found == {90 + label: label for label in settings.terms}
    assert notes == ()


def test_a_label_that_alone_has_a_code_takes_both_sides_of_it():
    both = list_known_names({0: "background", 1: "lungs"}, {1: Term(ANATOMY, LUNG)})
    sides = [Segment(1, "a", "SCT 39607008 7771000"), Segment(2, "b", "SCT 39607008 24028007")]
    assert match_labels(sides, both, "case")[0] == {1: 1, 2: 1}
    apart = list_known_names({1: "l", 2: "r"}, {1: Term(ANATOMY, LUNG, LEFT), 2: Term(ANATOMY, LUNG, RIGHT)})
    assert match_labels(sides, apart, "case")[0] == {1: 1, 2: 2}
    with pytest.raises(LabelError, match="SEGMENTS_AMBIGUOUS"):
        match_labels([sides[0], Segment(2, "lung", "SCT 39607008")], apart, "case")


def test_segments_in_another_order_than_the_labels_are_not_swapped():
    names = {1: ("right ventricle",), 2: ("myocardium",), 3: ("left ventricle",)}
    segments = [Segment(1, "Left Ventricle"), Segment(2, "Myocardium"), Segment(3, "RIGHT_VENTRICLE")]
    assert match_labels(segments, names, "case") == ({1: 3, 2: 2, 3: 1}, ())
