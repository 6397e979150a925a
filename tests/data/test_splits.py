""""""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.data.cases import Case, open_dataset
from medseg.data.splits import (
    Split,
    choose_split,
    datalist_of,
    fingerprint,
    folds,
    keep_foreground,
    read_split,
    split_cases,
    write_split,
)
from medseg.data.write import write
from medseg.errors import DatasetError, ImageError, UsageError


def made(count, cases_each=1):
    return [Case(f"c{g}-{i}", (f"{g}{i}.nii",), "m.nii", f"g{g}") for g in range(count) for i in range(cases_each)]


def group_parts(split, cases):
    chunks = (split.train, split.validation, split.test)
    return [{case.group for case in cases if case.id in chunk} for chunk in chunks]


COHORTS = st.lists(st.integers(0, 12), min_size=1, max_size=30).map(
    lambda groups: [Case(f"case{i}", (f"{i}.nii",), None, f"g{g}") for i, g in enumerate(groups)]
)
SHARES = st.lists(st.integers(0, 9), min_size=2, max_size=3).filter(any)


@given(COHORTS, SHARES, st.integers(0, 99), st.booleans())
def test_any_split_covers_all_cases_once_keeps_groups_whole_and_meets_its_sizes(cases, shares, seed, is_stratified):
    stratify = (lambda case: case.group[-1]) if is_stratified else None
    split = split_cases(cases, ":".join(map(str, shares)), seed, stratify)
    assert split.ids == tuple(sorted(case.id for case in cases))
    groups = group_parts(split, cases)
    assert all(not first & second for first, second in combinations(groups, 2))
    for share, held in zip([*shares, 0], groups, strict=False):
        assert abs(len(held) - share / sum(shares) * len({case.group for case in cases})) < 1


@given(COHORTS, st.integers(0, 99), st.randoms())
def test_the_order_of_cases_does_not_matter(cases, seed, random):
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert split_cases(cases, seed=seed) == split_cases(shuffled, seed=seed)
    assert fingerprint(c.id for c in cases) == fingerprint(c.id for c in shuffled)


@given(COHORTS.filter(lambda cases: len({case.group for case in cases}) >= 2), st.data())
def test_folds_hold_out_each_case_once_and_keep_groups_whole(cases, data):
    k = data.draw(st.integers(2, len({case.group for case in cases})))
    splits = folds(cases, k, seed=1)
    assert sorted(name for split in splits for name in split.validation) == sorted(case.id for case in cases)
    for split in splits:
        train, validation, test = group_parts(split, cases)
        assert not train & validation
        assert not test
        assert split.ids == tuple(sorted(case.id for case in cases))
    sizes = [len(group_parts(split, cases)[1]) for split in splits]
    assert max(sizes) - min(sizes) <= 1


def test_another_seed_gives_another_split():
    assert len({split_cases(made(30), seed=seed).train for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((0.7, 0.2, 0.1), (7, 2, 1)),
        ("8:1:1", (8, 1, 1)),
        ("2:1", (7, 3, 0)),
        ((0.5, 0.5), (5, 5, 0)),
        ((6, 3, 1), (6, 3, 1)),
        ((1, 0, 0), (10, 0, 0)),
        ([0.8, 0.2, 0], (8, 2, 0)),
    ],
)
def test_sizes_may_be_fractions_a_ratio_or_numbers_of_groups(sizes, expected):
    cases = made(10, cases_each=2)
    assert tuple(len(groups) for groups in group_parts(split_cases(cases, sizes), cases)) == expected


@pytest.mark.parametrize(
    "sizes", [(0.5, 0.3), "a:b", (1,), (0.2, 0.2, 0.3, 0.3), (-1, 2), "0:0", (float("nan"), 1), ""]
)
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(UsageError, match="SPLIT_SIZES"):
        split_cases(made(4), sizes)


def test_numbers_of_groups_must_add_up():
    with pytest.raises(DatasetError, match="adds up to 8, but there are 10 groups"):
        split_cases(made(10, cases_each=2), (5, 2, 1))


def test_strata_are_shared_out_evenly():
    cases = made(40)
    split = split_cases(cases, (0.5, 0.25, 0.25), seed=3, stratify=lambda case: str(int(case.group[1:]) < 8))
    rare = [
        sum(int(case.group[1:]) < 8 for case in cases if case.id in chunk)
        for chunk in (split.train, split.validation, split.test)
    ]
    assert rare[0] in (3, 4, 5)
    assert all(1 <= count <= 3 for count in rare[1:])


def test_no_cases_give_an_empty_split():
    assert split_cases([]).ids == ()


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(DatasetError, match="CASE_TWICE"):
        split_cases([*made(2), made(1)[0]])


@pytest.mark.parametrize("k", [0, 1, 4])
def test_impossible_numbers_of_folds_are_refused(k):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        folds(made(3), k)


def test_a_written_split_reads_back_the_same(tmp_path):
    split = split_cases(made(9), seed=4)
    assert read_split(write_split(split, tmp_path / "new/split.json")) == split


def test_a_split_made_by_hand_needs_train_and_validation_only(tmp_path):
    (tmp_path / "s.json").write_text('{"train": ["b", "a"], "validation": ["c"]}')
    assert read_split(tmp_path / "s.json") == Split(("a", "b"), ("c",), (), None, "made by hand")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"train": []}',
        '{"train": "abc", "validation": []}',
        '{"train": [1], "validation": []}',
        '{"train": ["a"], "validation": ["a"]}',
        '{"train": ["a"], "validation": ["b"], "fingerprint": "0"}',
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DatasetError, match="SPLIT_INVALID"):
        read_split(tmp_path / "s.json")


def test_a_split_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="SPLIT_INVALID"):
        choose_split(made(3), tmp_path / "none.json")


def test_a_split_file_of_these_cases_is_used(tmp_path):
    cases = made(10)
    split = split_cases(cases, seed=77)
    assert choose_split(cases, write_split(split, tmp_path / "s.json"), seed=1) == split


def test_a_split_file_of_another_data_set_is_left_aside(tmp_path):
    file = write_split(Split(("x",), ("y",), (), 0, ""), tmp_path / "s.json")
    assert choose_split(made(10), file, (0.5, 0.5), seed=3) == split_cases(made(10), (0.5, 0.5), seed=3)


@pytest.mark.parametrize(
    ("known", "said"), [(9, "1 case in no part of the split: "), (11, "1 name in the split of no case here: ")]
)
def test_a_split_file_of_some_of_the_cases_is_refused(tmp_path, known, said):
    file = write_split(split_cases(made(known)), tmp_path / "s.json")
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL") as refused:
        choose_split(made(10), file)
    assert refused.value.problem.startswith(said) and ";" not in refused.value.problem


def test_a_split_file_that_divides_a_patient_is_refused(tmp_path):
    file = write_split(Split(("c0-0", "c1-0", "c1-1"), ("c0-1",), (), 0, ""), tmp_path / "s.json")
    with pytest.raises(DatasetError, match=r"SPLIT_LEAK.*g0;"):
        choose_split(made(2, cases_each=2), file)


@pytest.fixture
def dataset_dir(tmp_path):
    training = []
    for name in "abcdefghij":
        (tmp_path / f"{name}.nii").write_bytes(b"0")
        training.append({"image": f"{name}.nii", "label": f"{name}.nii"})
    (tmp_path / "dataset.json").write_text(json.dumps({"training": training}))
    return tmp_path


def test_the_three_datalists_of_a_folder_share_no_case(dataset_dir):
    lists = {part: datalist_of(str(dataset_dir), part, seed=2) for part in ("train", "validation", "test")}
    assert [len(records) for records in lists.values()] == [7, 2, 1]
    assert sorted(record["case_id"] for records in lists.values() for record in records) == list("abcdefghij")
    assert lists["test"][0]["image"].startswith(str(dataset_dir))


def test_a_datalist_follows_the_split_file(dataset_dir, tmp_path):
    file = write_split(Split(tuple("abcdefgh"), ("j",), ("i",), 0, ""), tmp_path / "s.json")
    assert [record["case_id"] for record in datalist_of(str(dataset_dir), "validation", str(file))] == ["j"]


def test_an_empty_part_is_refused(dataset_dir):
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        datalist_of(str(dataset_dir), "test", fractions=(0.8, 0.2, 0))


def test_an_unknown_part_is_refused(dataset_dir):
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
        datalist_of(str(dataset_dir), "training")


@pytest.fixture
def pictures(tmp_path):
    """Four pictures with masks, of which b and d hold something."""
    for name in "abcd":
        for part in ("images", "masks"):
            array = np.zeros((3, 3), np.uint8)
            array[0, 0] = 255 if name in "bd" else 0
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / part / f"{name}.png")
    return str(tmp_path)


def test_cases_with_empty_masks_are_dropped_on_request(pictures):
    everything = {"fractions": (1, 0)}
    assert len(datalist_of(pictures, "train", **everything)) == 4
    kept = datalist_of(pictures, "train", **everything, drop_empty=True)
    assert [record["case_id"] for record in kept] == ["b", "d"]


def test_dropping_does_not_move_a_case_to_another_part(pictures):
    lists = {
        part: datalist_of(pictures, part, seed=1, fractions="1:1", drop_empty=True) for part in ("train", "validation")
    }
    split = split_cases(open_dataset(pictures).cases, "1:1", seed=1)
    for part, records in lists.items():
        assert {record["case_id"] for record in records} == set(getattr(split, part)) & set("bd")


def test_a_part_with_empty_masks_alone_is_refused(pictures, tmp_path):
    file = write_split(Split(("b", "d"), ("a", "c"), (), 0, ""), tmp_path / "s.json")
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        datalist_of(pictures, "validation", str(file), drop_empty=True)


def test_channels_of_a_datalist_are_chosen_by_name(tmp_path):
    for name in ("a/x_flair.nii", "a/x_t1.nii", "a/x_t1ce.nii", "a/x_t2.nii", "a/x_seg.nii"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    (record,) = datalist_of(str(tmp_path), "train", fractions=(1, 0), channels=["T1Gd", "FLAIR"])
    assert record["image"] == [str(tmp_path / "a/x_t1ce.nii"), str(tmp_path / "a/x_flair.nii")]
    with pytest.raises(DatasetError, match="CHANNELS_DIFFER"):
        datalist_of(str(tmp_path), "train", fractions=(1, 0), channels=["flair", "adc"])


def test_all_patients_in_two_parts_are_named_at_once(tmp_path):
    file = write_split(Split(("c0-0", "c1-0", "c2-0", "c2-1"), ("c0-1",), ("c1-1",), 0, ""), tmp_path / "s.json")
    with pytest.raises(DatasetError, match=r"SPLIT_LEAK.*g0, g1;"):
        choose_split(made(3, cases_each=2), file)


def case(folder, name, *masks):
    paths = tuple(
        str(write(np.asarray(m, np.uint8), np.eye(4), folder / f"{name}{i}.png")) for i, m in enumerate(masks)
    )
    return Case(name, ("x.png",), (paths[0] if len(paths) == 1 else paths) if paths else None, name)


def test_cases_whose_mask_is_empty_or_not_there_are_left_out_in_order(tmp_path):
    empty, full = np.zeros((3, 3)), np.eye(3) * 255
    cases = [case(tmp_path, n, *m) for n, m in (("a", [full]), ("b", [empty]), ("c", []), ("d", [full]))]
    assert [each.id for each in keep_foreground(cases)] == ["a", "d"]


def test_one_half_with_something_in_it_is_enough(tmp_path):
    cases = [case(tmp_path, "a", np.zeros((3, 3)), np.eye(3)), case(tmp_path, "b", np.zeros((3, 3)), np.zeros((3, 3)))]
    assert [each.id for each in keep_foreground(cases)] == ["a"]


def test_no_cases_leave_none():
    assert keep_foreground([]) == ()


def test_a_mask_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "m.png").write_bytes(b"0")
    with pytest.raises(ImageError):
        keep_foreground([Case("a", ("x.png",), str(tmp_path / "m.png"), "a")])
