"""Every folder of ``tests.hostile_dicom`` gets its verdict, from ``read`` and from ``inventory`` alike."""

import numpy as np
import pytest

from medseg.data.dicom.series import take_inventory
from medseg.data.read import read
from medseg.errors import ImageError
from tests.dicom_folders import AFFINE, TRUTH
from tests.hostile_dicom import FOLDERS, GOOD, ODD

OTHER_GRIDS = {"sagittal", "coronal", "rounded positions", "gantry tilt", "X-ray", "single slice without thickness"}
NEEDS_ONE_SERIES = {"DICOM_SEVERAL_SERIES", "DICOM_NO_IMAGE"}
FOUND_IN_DECODING = {"zeros behind a deflated slice", "run lengths cut", "fewer frames than streams"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a case and its truth, made once."""
    made = {}

    def build(case):
        if case.needs:
            pytest.importorskip(case.needs)
        if case.name not in made:
            folder = tmp_path_factory.mktemp("hostile") / "case"
            made[case.name] = folder, case.build(folder)
        return made[case.name]

    return build


@pytest.mark.parametrize("case", [*GOOD, *ODD], ids=str)
def test_what_can_be_read_is_read_right_and_what_is_odd_is_noted(case, built):
    folder, expected = built(case)
    volume = read(folder)
    np.testing.assert_array_equal(volume.array, TRUTH if expected is None else expected)
    codes = [note.code for note in volume.notes if note.code != "SHEARED_GRID"]
    assert codes == ([case.code] if case.code else [])
    if case.name not in OTHER_GRIDS:
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("case", [case for case in FOLDERS if case.verdict == "reject"], ids=str)
def test_what_is_wrong_is_refused_with_its_code_and_a_remedy(case, built):
    folder, _ = built(case)
    with pytest.raises(ImageError) as caught:
        read(folder)
    assert caught.value.code == case.code
    assert caught.value.remedy


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_the_inventory_finds_what_the_reader_finds(case, built):
    folder, _ = built(case)
    found = take_inventory(folder)
    findings = [*found.findings, *(finding for series in found.series for finding in series.findings)]
    codes = {finding.code for finding in findings if finding.severity != "info"} - {"SHEARED_GRID"}
    assert all(finding.remedy and not finding.case.startswith("/") for finding in findings)
    if case.verdict == "reject" and case.code not in NEEDS_ONE_SERIES and case.name not in FOUND_IN_DECODING:
        assert case.code in codes
    elif case.verdict != "reject":
        assert codes == ({case.code} if case.code else set())
    if case.verdict != "reject":
        (series,) = found.series
        assert series.is_readable
