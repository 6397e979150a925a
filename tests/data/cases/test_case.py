""""""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.cases import open_dataset, open_images
from medseg.data.cases.case import (
    BRAIN_CHANNELS,
    Case,
    are_modalities,
    channel_count,
    distinct_names,
    guess_group,
    modality_of,
    select_channels,
)
from medseg.data.read import read
from medseg.data.splits import datalist_of
from medseg.data.write import write
from medseg.errors import DatasetError


@pytest.mark.parametrize(
    ("case_id", "group"),
    [
        ("patient007_frame01", "patient007"),
        ("acdc/patient007/patient007_frame12", "patient007"),
        ("TCGA_DU_7298_19910324_14", "TCGA_DU_7298"),
        ("sub-01_ses-2_T1w", "sub-01"),
        ("inpatient12", "inpatient12"),
        ("2d/ID_0017_Z_0061", "ID_0017"),
        ("ID_0017", "ID_0017"),
        ("ID_00171_Z_0061", "ID_00171_Z_0061"),
        ("ID_0017_Z_00612", "ID_0017_Z_00612"),
        ("hippocampus_001", "hippocampus_001"),
    ],
)
def test_the_patient_is_told_from_the_id(case_id, group):
    assert guess_group(case_id) == group


NAME = st.text("ab.", min_size=1, max_size=3)


@given(st.lists(st.tuples(NAME, NAME, NAME), unique_by=lambda names: names[-1], max_size=8))
def test_names_are_always_distinct_and_drawn_from_the_choices(choices):
    names = distinct_names(choices)
    assert len(set(names)) == len(choices)
    assert all(name in own for name, own in zip(names, choices, strict=True))


FOUR = ("flair", "t1", "t1ce", "t2")
CASE = Case("a", tuple(f"a_{name}.nii" for name in FOUR), None, "a")


def chosen(named, wanted, images=CASE.images):
    (case,) = select_channels([Case("a", images, None, "a")], named, wanted, "here")
    return case.images


def refusal(named, wanted, images=CASE.images):
    with pytest.raises(DatasetError) as caught:
        chosen(named, wanted, images)
    assert caught.value.code == "CHANNELS_DIFFER"
    return caught.value.problem


def test_no_wish_or_a_number_leaves_the_cases_alone():
    assert select_channels([CASE], FOUR, None, "here") == (CASE,)
    assert select_channels([CASE], FOUR, 2, "here") == (CASE,)
    assert select_channels([], FOUR, ["flair"], "here") == ()


def test_every_spelling_stands_for_one_modality_in_any_case():
    for name, spellings in BRAIN_CHANNELS.items():
        assert {modality_of(each) for word in spellings for each in (word, word.upper())} == {name}
    assert modality_of("liver") is None


@given(st.permutations(list(BRAIN_CHANNELS)), st.data())
def test_channels_are_found_by_name_in_any_order_and_spelling(order, data):
    wanted = data.draw(st.lists(st.sampled_from(order), min_size=1, unique=True))
    spelt = [data.draw(st.sampled_from(BRAIN_CHANNELS[name])).upper() for name in wanted]
    images = tuple(f"{name}.nii" for name in order)
    assert chosen(order, spelt, images) == tuple(f"{name}.nii" for name in wanted)


def test_names_that_are_no_modalities_are_compared_without_case_and_punctuation():
    assert chosen(("PET", "ct-low"), ["CT low", "pet"], ("p.nii", "c.nii")) == ("c.nii", "p.nii")


def test_without_names_channels_are_taken_in_order_if_the_number_fits():
    assert chosen((), ["flair", "t1ce"], ("x.nii", "y.nii")) == ("x.nii", "y.nii")
    assert chosen((), ["flair", "t1ce"], ("both.nii",)) == ("both.nii",)
    assert "a has 3" in refusal((), ["flair", "t1ce"], ("x.nii", "y.nii", "z.nii"))


def test_names_that_nothing_relates_are_taken_in_order_if_the_number_fits():
    assert chosen(("MRI",), ["MR"], ("x.nii",)) == ("x.nii",)
    problem = refusal(("MRI", "CT"), ["MR"], ("x.nii", "y.nii"))
    assert "1 (MR)" in problem
    assert "2 (MRI, CT)" in problem


@pytest.mark.parametrize(
    ("named", "wanted"), [(("t2",), ["flair"]), (FOUR, ["flair", "t1c", "adc"]), (("t1", "T1w"), ["t1"])]
)
def test_a_known_modality_is_never_replaced_by_another(named, wanted):
    problem = refusal(named, wanted, tuple(f"{name}.nii" for name in named))
    assert all(name in problem for name in (*named, *wanted))


def test_all_cases_with_another_number_of_images_are_named():
    cases = [Case(name, ("1.nii", "2.nii", "3.nii"), None, name) for name in ("b", "c")]
    with pytest.raises(DatasetError, match=r"CHANNELS_DIFFER.*b has 3.*c has 3"):
        select_channels([CASE, *cases], FOUR, ["flair"], "here")


def test_channels_inside_one_nifti_file_become_its_frames():
    assert chosen(FOUR, ["t1gd", "flair"], ("a.nii.gz",)) == ("a.nii.gz#t2", "a.nii.gz#t0")
    assert chosen(FOUR, list(FOUR), ("a.nii.gz",)) == ("a.nii.gz",)
    assert "no NIfTI" in refusal(FOUR, ["t1gd"], ("a.mha",))


def test_counts_and_kinds_of_wishes():
    assert [channel_count(wanted) for wanted in (None, 3, ["a", "b"])] == [None, 3, 2]
    assert are_modalities(["T1Gd", "flair"])
    assert not any(are_modalities(wanted) for wanted in (None, 2, [], ["flair", "ct"]))


def test_a_decathlon_set_with_its_channels_in_one_file_gives_the_named_ones(tmp_path):
    voxels = np.arange(4 * 3 * 2 * 2, dtype=np.int16).reshape(4, 3, 2, 2)
    write(voxels, np.eye(4), tmp_path / "imagesTr/a.nii.gz", has_channels=True)
    write(voxels[0] > 3, np.eye(4), tmp_path / "labelsTr/a.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": training}))
    (case,) = open_images(tmp_path, ["T1ce", "flair"])
    assert case.label is None
    np.testing.assert_array_equal([read(path).array for path in case.images], voxels[[2, 0]])
    (record,) = datalist_of(str(tmp_path), "train", fractions=(1, 0), channels=["T1ce", "flair"])
    assert record["image"] == list(case.images)
    assert open_dataset(tmp_path).cases[0].images == (str(tmp_path / "imagesTr/a.nii.gz"),)


def test_a_list_and_a_table_are_held_against_the_number_of_named_channels(tmp_path):
    for name in ("a.nii", "b.nii", "c.nii"):
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / "t.csv").write_text("image,image_2,image_3\na.nii,b.nii,c.nii\n")
    with pytest.raises(DatasetError, match="CHANNELS_DIFFER"):
        open_images(tmp_path / "t.csv", ["flair", "t1ce"])
    assert len(open_images(tmp_path / "t.csv", ["flair", "t1", "t2"])[0].images) == 3
    (tmp_path / "l.txt").write_text("a.nii\nb.nii\n")
    assert len(open_images(tmp_path / "l.txt", ["flair", "t1ce"])) == 2
