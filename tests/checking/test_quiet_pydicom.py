"""Python's medseg.check keeps back what pydicom says of headers, and leaves the filters as they were."""

import threading
import warnings

import numpy as np
import pydicom
import pytest

import medseg
from medseg.checking.quiet_pydicom import quiet_pydicom
from medseg.data.dicom.series import write_ct_series
from medseg.errors import DatasetError


@pytest.fixture
def odd_headers(tmp_path):
    write_ct_series(np.zeros((8, 8, 3), np.int16), np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct", seed_uid="one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((tmp_path / "ct").iterdir()):
            header = pydicom.dcmread(path)
            header.add_new("PatientBirthDate", "DA", "not-a-date-4711")
            header.add_new("SeriesInstanceUID", "UI", "1.2.DOE-4711")
            header.save_as(path)
    return tmp_path / "ct"


def heard(action):
    """The messages of warnings while ``action`` runs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(each.message) for each in caught]


def test_no_identifier_reaches_a_warning(odd_headers, tmp_path):
    assert any("4711" in text for text in heard(lambda: str(pydicom.dcmread(next(odd_headers.iterdir())))))
    assert heard(lambda: medseg.check(odd_headers)) == []
    assert heard(lambda: medseg.check(odd_headers, fix=tmp_path / "out")) == []


def test_filters_are_as_before_after_a_check_and_after_a_refusal(odd_headers, tmp_path):
    before = list(warnings.filters)
    medseg.check(odd_headers)
    with pytest.raises(DatasetError):
        medseg.check(tmp_path / "nowhere")
    assert list(warnings.filters) == before


def test_checks_that_overlap_in_threads_share_one_filter_and_leave_none_behind():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def first():
        with quiet_pydicom():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with quiet_pydicom():
        leave.set()
        thread.join(10)
        assert len(warnings.filters) == len(before) + 1
    assert list(warnings.filters) == before


def test_warnings_of_others_are_shown():
    with quiet_pydicom():
        assert heard(lambda: warnings.warn("mine", stacklevel=1)) == ["mine"]
