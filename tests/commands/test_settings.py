import pytest

from medseg.commands.settings import read_choices, read_settings, read_size
from medseg.errors import UsageError


def test_settings_are_read_as_numbers_lists_and_text():
    pairs = ["a=1e-3", "b=-2.5E4", "c=[1e-1, 2]", "d=unet", "e='1e-3'", "f=1e", "g=a=b"]
    expected = {"a": 0.001, "b": -25000.0, "c": [0.1, 2], "d": "unet", "e": "1e-3", "f": "1e", "g": "a=b"}
    assert read_settings(pairs) == expected


def test_several_values_are_parted_by_commas_outside_brackets():
    pairs = ["a=1,2e-1", "b=sgd, adam", "c=[0.5, 0.5],[0.9, 0.1]", "d=7"]
    expected = {"a": (1, 0.2), "b": ("sgd", "adam"), "c": ([0.5, 0.5], [0.9, 0.1]), "d": (7,)}
    assert read_choices(pairs) == expected


def test_nothing_gives_nothing():
    assert read_settings([]) == {}
    assert read_choices([]) == {}


def test_a_key_is_given_once():
    for read in (read_settings, read_choices):
        with pytest.raises(UsageError, match="SETTING_INVALID: seed"):
            read(["seed=1", "epochs=2", "seed=1"])


@pytest.mark.parametrize("pair", ["seed=", "seed= "])
def test_a_choice_of_nothing_is_refused(pair):
    with pytest.raises(UsageError, match="SETTING_INVALID: seed"):
        read_choices([pair])


@pytest.mark.parametrize("pair", ["fractions=[0.5, 0.5", "epochs"])
def test_what_is_no_key_with_a_value_is_refused(pair):
    for read in (read_settings, read_choices):
        with pytest.raises(UsageError, match="SETTING_INVALID"):
            read([pair])


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("2k", 2048), ("1.5M", 3 << 19), (" 4 G ", 1 << 32), ("4GiB", 1 << 32), (".5T", 1 << 39)],
)
def test_sizes_are_read_in_powers_of_1024(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "0", "-1", "4X", "4 G G", "nan", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="SIZE_INVALID"):
        read_size(text)
