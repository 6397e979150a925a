"""Codes of labels: read from plain values, known to the standard, and recognised in files of others."""

import json

import pytest
from pydicom.sr.codedict import codes

from medseg.bundle.config import find_bundle
from medseg.bundle.settings import read_settings
from medseg.data.dicom.segments import Segment, labels_of
from medseg.data.dicom.terminology import Code, Term, own_term, plain_terms, read_terms, recognised_by
from medseg.errors import LabelError
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "tools" / "bundle_src").glob("*.yaml"))
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
LEFT, RIGHT = Code("7771000", "SCT", "Left"), Code("24028007", "SCT", "Right")


def test_terms_are_the_same_after_a_round_through_plain_values():
    terms = {1: Term(ANATOMY, LUNG, LEFT, Code("816094009", "SCT", "Thorax"), (1, 2, 3)), 2: Term(ANATOMY, LUNG)}
    assert read_terms(plain_terms(terms)) == terms
    assert read_terms({}) == {}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"one": {}},
        {1: {"category": ["1", "SCT", "x"]}},
        {1: {"category": ["1", "SCT", "x"], "type": ["2", "SCT"]}},
        {1: {"category": ["1", "SCT", "x"], "type": ["2" * 17, "SCT", "x"]}},
        {1: {"category": ["1", "SCT", "x"], "type": ["2", "SCT", "x" * 65]}},
        {1: {"category": ["1", "SCT", "x"], "type": ["2", "SCT", "y"], "color": [1, 2, 3]}},
        {1: {"category": ["1", "SCT", "x"], "type": ["2", "SCT", "y"], "colour": [1, 2, 256]}},
    ],
)
def test_what_is_no_term_is_refused(content):
    with pytest.raises(ValueError, match="."):
        read_terms(content)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_label_of_a_bundle_has_a_code_that_the_standard_s_dictionary_knows(source):
    settings = read_settings(source)
    assert set(settings.terms) == set(settings.labels) - {0}
    lesions = {code.value for code in (codes.cid7159.EnhancingLesion, codes.cid7159.NonEnhancingLesion)}
    for term in settings.terms.values():
        for code in filter(None, (term.category, term.kind, term.modifier, term.region)):
            if code.scheme == "SCT":
                meanings = [known.meaning.lower() for known in codes.SCT.concepts.values() if known.value == code.value]
                assert any(code.meaning.lower() in meaning for meaning in meanings), (code, meanings)
            elif code.scheme == "NCIt":
                assert code.value in lesions
            else:
                assert code.scheme == "99MEDSEG"
    assert len({term.key for term in settings.terms.values()}) == len(settings.terms)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_bundle_s_own_segments_are_recognised_by_code_alone(source):
    settings = read_settings(source)
    segments = [Segment(90 + label, "unnamed", term.key) for label, term in settings.terms.items()]
    found, notes = labels_of(segments, recognised_by(settings.labels, settings.terms), "case")
    assert found == {90 + label: label for label in settings.terms}
    assert notes == ()


def test_a_label_that_alone_has_a_code_takes_both_sides_of_it():
    both = recognised_by({0: "background", 1: "lungs"}, {1: Term(ANATOMY, LUNG)})
    sides = [Segment(1, "a", "SCT 39607008 7771000"), Segment(2, "b", "SCT 39607008 24028007")]
    assert labels_of(sides, both, "case")[0] == {1: 1, 2: 1}
    apart = recognised_by({1: "l", 2: "r"}, {1: Term(ANATOMY, LUNG, LEFT), 2: Term(ANATOMY, LUNG, RIGHT)})
    assert labels_of(sides, apart, "case")[0] == {1: 1, 2: 2}
    with pytest.raises(LabelError, match="SEGMENTS_AMBIGUOUS"):
        labels_of([sides[0], Segment(2, "lung", "SCT 39607008")], apart, "case")


def test_segments_in_another_order_than_the_labels_are_not_swapped():
    names = {1: ("right ventricle",), 2: ("myocardium",), 3: ("left ventricle",)}
    segments = [Segment(1, "Left Ventricle"), Segment(2, "Myocardium"), Segment(3, "RIGHT_VENTRICLE")]
    assert labels_of(segments, names, "case") == ({1: 3, 2: 2, 3: 1}, ())


def test_a_name_without_a_code_gets_a_private_one():
    term = own_term(12, "n" * 80)
    assert term.kind.scheme == "99MEDSEG"
    assert len(term.kind.value) <= 16
    assert len(term.kind.meaning) == 64


def test_the_shipped_metadata_say_what_the_sources_say():
    for source in SOURCES:
        content = json.loads((find_bundle(source.stem) / "configs" / "metadata.json").read_text(encoding="utf8"))
        assert read_terms(content["terminology"]) == read_settings(source).terms
