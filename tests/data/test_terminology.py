"""Codes of labels: read from plain values, known to the standard, and the same in bundles as in their sources."""

import json

import pytest
from pydicom.sr.codedict import codes

from medseg.bundle.config import find_bundle
from medseg.bundle.settings import read_settings
from medseg.data.terminology import Code, Term, dump_terms, make_own_term, read_terms
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "tools" / "bundle_src").glob("*.yaml"))
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
LEFT, RIGHT = Code("7771000", "SCT", "Left"), Code("24028007", "SCT", "Right")


def test_terms_are_the_same_after_a_round_through_plain_values():
    terms = {1: Term(ANATOMY, LUNG, LEFT, Code("816094009", "SCT", "Thorax"), (1, 2, 3)), 2: Term(ANATOMY, LUNG)}
    assert read_terms(dump_terms(terms)) == terms
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


def test_a_name_without_a_code_gets_a_private_one():
    term = make_own_term(12, "n" * 80)
    assert term.kind.scheme == "99MEDSEG"
    assert len(term.kind.value) <= 16
    assert len(term.kind.meaning) == 64


def test_the_shipped_metadata_say_what_the_sources_say():
    for source in SOURCES:
        content = json.loads((find_bundle(source.stem) / "configs" / "metadata.json").read_text(encoding="utf8"))
        assert read_terms(content["terminology"]) == read_settings(source).terms
