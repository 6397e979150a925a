import pytest

from medseg.bundle.shipped import find_bundle, find_shipped, near_names
from medseg.errors import BundleError


def test_a_folder_is_found_by_its_path_whatever_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine" / "configs").mkdir(parents=True)
    assert find_bundle(tmp_path / "mine") == (tmp_path / "mine").resolve()
    monkeypatch.chdir(tmp_path)
    assert find_bundle("mine") == (tmp_path / "mine").resolve()


def test_a_folder_wins_over_the_shipped_bundle_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "phantom_ct_segmentation" / "configs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_bundle("phantom_ct_segmentation") == (tmp_path / "phantom_ct_segmentation").resolve()
    assert find_shipped("phantom_ct_segmentation") != (tmp_path / "phantom_ct_segmentation").resolve()


def test_a_folder_without_configurations_is_told_apart_from_none(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND.*no folder 'configs' in it"):
        find_bundle(tmp_path / "empty")
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND.*no such folder or name"):
        find_bundle(tmp_path / "none")


def test_nothing_is_near_where_nothing_is_shipped():
    assert near_names("acdc", []) == []


def test_shipped_bundles_are_found_by_name():
    assert (find_bundle("phantom_ct_segmentation") / "configs" / "inference.json").is_file()


def test_an_unknown_bundle_lists_the_shipped_ones():
    with pytest.raises(BundleError, match=r"BUNDLE_NOT_FOUND.*hippocampus_mr_segmentation"):
        find_bundle("hipocampus")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hipocampus", "hippocampus_mr_segmentation"),
        ("acdc", "acdc_mr_segmentation"),
        ("ACDC-mr", "acdc_mr_segmentation"),
        ("isbi_em", "isbi_em_segmentation"),
        ("bundles/polyp", "polyp_endoscopy_segmentation"),
        ("phantom_ct_segmentaton", "phantom_ct_segmentation"),
    ],
)
def test_the_bundle_that_may_be_meant_is_named_first(name, meant):
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND") as refused:
        find_bundle(name)
    assert f"did you mean {meant}?" in refused.value.remedy


@pytest.mark.parametrize("name", ["xyz", "segmentation"])
def test_a_name_like_none_or_like_all_of_them_is_no_hint(name):
    with pytest.raises(BundleError, match="BUNDLE_NOT_FOUND") as refused:
        find_bundle(name)
    assert "did you mean" not in refused.value.remedy
