import pytest

from medseg.errors import UsageError
from medseg.evaluation.options import EvaluateOptions


def test_a_plain_comparison_records_only_what_a_missing_mask_counts():
    assert EvaluateOptions().to_record() == {"missing": "zero"}


def test_what_was_asked_for_is_recorded():
    options = EvaluateOptions(missing="skip", background=True, slices=1, renamed={4: 3, 2: 1})
    record = options.to_record()
    assert record.keys() == {"missing", "background", "slices", "renamed"}
    assert (record["missing"], record["renamed"]) == ("skip", "4=3, 2=1")
    assert "1" in record["slices"]


@pytest.mark.parametrize("slices", [3, -1, True, "2", 1.5])
def test_an_axis_that_is_none_is_refused(slices):
    with pytest.raises(UsageError, match="SETTING_INVALID: slices"):
        EvaluateOptions(slices=slices)


def test_a_treatment_of_missing_masks_that_is_none_is_refused():
    with pytest.raises(UsageError, match="MISSING_UNKNOWN"):
        EvaluateOptions(missing="ignore")
