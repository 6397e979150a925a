import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.training.kinds import NUMBERS, Number, check_kind


@pytest.mark.parametrize(
    ("key", "known", "value"),
    [
        ("learning_rate", 0.1, "fast"),
        ("learning_rate", 0.1, -1),
        ("learning_rate", 0.1, math.nan),
        ("learning_rate", 0.1, math.inf),
        ("learning_rate", 0.1, [1, 2]),
        ("learning_rate", 0.1, None),
        ("batch_size", 4, 0),
        ("batch_size", 4, 2.5),
        ("batch_size", 4, True),
        ("val_interval", 1, 0),
        ("num_workers", 0, -1),
        ("seed", 1, 1.5),
        ("cache_rate", 1.0, 2),
        ("clip_norm", 0.0, "big"),
        ("amp", "$@device.type == 'cuda'", "maybe"),
        ("amp", False, 1),
        ("device", "$torch.device('cpu')", "cuda"),
        ("own_number", 3, [3]),
        ("own_text", "a", ["a"]),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_with_the_kind_that_it_takes(key, known, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: {key}") as refused:
        check_kind(key, known, value)
    assert refused.value.remedy.startswith("give ")


@pytest.mark.parametrize(
    ("key", "known", "value"),
    [
        ("learning_rate", 0.1, 1),
        ("learning_rate", 0.1, 0),
        ("learning_rate", "$1e-3", "fast"),
        ("learning_rate", 0.1, "$1e-3"),
        ("learning_rate", 0.1, "@other"),
        ("batch_size", 4, 1),
        ("batch_size", [2, 2], [4, 4]),
        ("cache_rate", 1.0, 0),
        ("patience", 0, 20),
        ("amp", "$@device.type == 'cuda'", True),
        ("device", "$torch.device('cpu')", "$torch.device('cuda', 1)"),
        ("device", "cpu", "cuda"),
        ("a::roi_size", 96, [96, 64]),
        ("fractions", [0.5, 0.5], "8:1:1"),
        ("own_number", 3, 4.5),
        ("own", None, "anything"),
    ],
)
def test_a_value_that_a_setting_can_have_is_taken(key, known, value):
    check_kind(key, known, value)


@given(st.one_of(st.floats(), st.integers(-5, 5), st.text(), st.none(), st.booleans()))
def test_a_number_is_held_where_it_lies_in_the_range_and_nothing_else_is(value):
    is_number = type(value) in (int, float)
    assert Number(-1, 2).holds(value) == (is_number and -1 <= value <= 2)
    assert Number(-1, 2, is_whole=True).holds(value) == (type(value) is int and -1 <= value <= 2)


def test_every_number_s_kind_is_told_in_words_that_name_its_limits():
    assert {number.text for number in NUMBERS.values()} == {
        "whole number of 1 or more",
        "whole number of 0 or more",
        "number of 0 or more",
        "number from 0 to 1",
    }
