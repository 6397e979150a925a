import numpy as np
import pytest

from medseg.data.case import Case
from medseg.data.foreground import with_foreground
from medseg.data.images import write
from medseg.errors import ImageError


def case(folder, name, *masks):
    paths = tuple(
        str(write(np.asarray(m, np.uint8), np.eye(4), folder / f"{name}{i}.png")) for i, m in enumerate(masks)
    )
    return Case(name, ("x.png",), (paths[0] if len(paths) == 1 else paths) if paths else None, name)


def test_cases_whose_mask_is_empty_or_not_there_are_left_out_in_order(tmp_path):
    empty, full = np.zeros((3, 3)), np.eye(3) * 255
    cases = [case(tmp_path, n, *m) for n, m in (("a", [full]), ("b", [empty]), ("c", []), ("d", [full]))]
    assert [each.id for each in with_foreground(cases)] == ["a", "d"]


def test_one_half_with_something_in_it_is_enough(tmp_path):
    cases = [case(tmp_path, "a", np.zeros((3, 3)), np.eye(3)), case(tmp_path, "b", np.zeros((3, 3)), np.zeros((3, 3)))]
    assert [each.id for each in with_foreground(cases)] == ["a"]


def test_no_cases_leave_none():
    assert with_foreground([]) == ()


def test_a_mask_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "m.png").write_bytes(b"0")
    with pytest.raises(ImageError):
        with_foreground([Case("a", ("x.png",), str(tmp_path / "m.png"), "a")])
