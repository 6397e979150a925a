import pickle

import pytest

from medseg.errors import (
    BundleError,
    ImageError,
    InputError,
    MedsegError,
    OutputError,
    UsageError,
    as_finding,
    check_known,
    coded_cause,
    first_line,
)
from medseg.findings import CODES, Finding


def test_an_error_says_code_case_problem_and_remedy():
    error = ImageError("IMAGE_TRUNCATED", "a.nii", "12 of 40 bytes", "copy it again")
    assert str(error) == "IMAGE_TRUNCATED: a.nii: 12 of 40 bytes; copy it again"
    assert error.to_record() == {
        "code": "IMAGE_TRUNCATED",
        "case": "a.nii",
        "problem": "12 of 40 bytes",
        "remedy": "copy it again",
    }


@pytest.mark.parametrize(
    ("kind", "exit_code"), [(ImageError, 1), (UsageError, 2), (InputError, 3), (BundleError, 4), (OutputError, 5)]
)
def test_each_branch_of_the_tree_has_its_exit_code(kind, exit_code):
    assert issubclass(kind, MedsegError)
    assert kind("CODE", "case", "problem", "remedy").exit_code == exit_code


def test_an_error_without_a_remedy_has_that_of_the_table():
    assert ImageError("IMAGE_GRID", "a.nii", "flat").remedy == CODES["IMAGE_GRID"].remedy
    assert ImageError("IMAGE_GRID", "a.nii", "flat", "turn it").remedy == "turn it"
    assert pickle.loads(pickle.dumps(ImageError("IMAGE_GRID", "a.nii", "flat"))).remedy == CODES["IMAGE_GRID"].remedy


def test_an_error_becomes_an_entry_of_a_list():
    error = ImageError("IMAGE_GRID", "a.nii", "flat", "turn it")
    assert as_finding(error) == Finding("a.nii", "IMAGE_GRID", "flat", "turn it", "error")
    assert as_finding(error, "a.nii") == as_finding(error)
    assert as_finding(error, "case a").problem == "a.nii: flat"
    assert as_finding(ImageError("IMAGE_GRID", "", "flat"), "case a").problem == "flat"
    assert as_finding(ImageError("LABEL_TOO_MANY", "a.nii", "9999")).is_error, "what was raised is an error"


def test_our_error_is_found_inside_a_library_s():
    try:
        try:
            raise ImageError("IMAGE_TRUNCATED", "a.nii", "short", "copy it again")
        except ImageError as inner:
            raise RuntimeError("applying transform") from inner
    except RuntimeError as outer:
        assert coded_cause(outer).code == "IMAGE_TRUNCATED"


def test_a_library_s_own_error_has_no_code():
    assert coded_cause(ValueError("nothing of ours")) is None


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"COLOUR_UNKNOWN: gren: is not known in paint; did you mean green"):
        check_known("COLOUR_UNKNOWN", ["red", "gren"], ["red", "green"], "paint")
    with pytest.raises(UsageError, match="use one of red, green"):
        check_known("COLOUR_UNKNOWN", ["xyz"], ["red", "green"])
    check_known("COLOUR_UNKNOWN", ["red"], ["red"])


def test_an_error_without_text_still_has_a_line():
    assert first_line(EOFError()) == "EOFError"
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
