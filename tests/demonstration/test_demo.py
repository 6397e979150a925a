"""The demonstration's scans; the whole of it runs in tests/end_to_end."""

import numpy as np

from medseg.data.cases import open_images
from medseg.data.read import read, read_mask
from medseg.demonstration.demo import make_scans
from medseg.geometry import is_same_grid


def test_three_scans_have_references_on_their_grids(tmp_path):
    make_scans(tmp_path / "scans", tmp_path / "references")
    cases = open_images(tmp_path / "scans")
    assert [case.id for case in cases] == ["dicom_series", "oblique", "straight"]
    for case in cases:
        scan, reference = read(case.images[0]), read_mask(tmp_path / "references" / f"{case.id}.nii.gz")
        assert is_same_grid(scan.grid, reference.grid)
        assert np.unique(reference.array).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert abs(read(cases[1].images[0]).affine[0, 1]) > 0.01
