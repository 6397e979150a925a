import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.cases.case import distinct_names, guess_group


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
