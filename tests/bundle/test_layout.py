import pytest

from medseg.bundle.layout import CaseLayout
from medseg.errors import OutputError


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    for name in ("a.nii.gz", "a.mha", "v1.0/b.nii.gz", "v1.1/b.nii.gz", "c.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_given(layout, scans):
    images = sorted(path for path in scans.rglob("*.*") if path.is_file())
    return [layout.filename(str(image), idx=None).relative_to(layout.output_dir).as_posix() for image in images]


def test_every_image_has_a_mask_of_its_own(scans, tmp_path):
    layout = CaseLayout(str(tmp_path / "masks"), str(scans))
    assert names_given(layout, scans) == [
        "a.mha.nii.gz",
        "a.nii.gz.nii.gz",
        "c.nii.gz",
        "v1.0/b.nii.gz",
        "v1.1/b.nii.gz",
    ]
    assert (tmp_path / "masks" / "v1.1").is_dir()


def test_a_single_image_has_its_mask_in_the_output_folder(scans, tmp_path):
    image = scans / "c.nii.gz"
    layout = CaseLayout(str(scans / "masks"), str(image), extension=".png", postfix="seg")
    assert layout.filename(str(image)) == scans / "masks" / "c_seg.png"


@pytest.mark.parametrize("dataset", ["", "c.nii.gz"])
def test_an_image_is_never_overwritten(scans, dataset):
    layout = CaseLayout(str(scans), str(scans / dataset))
    with pytest.raises(OutputError, match=r"OUTPUT_COLLISION.*c\.nii\.gz"):
        layout.filename(str(scans / "c.nii.gz"))


def test_a_case_found_elsewhere_is_named_by_its_file(tmp_path):
    layout = CaseLayout(str(tmp_path / "masks"), str(tmp_path / "nowhere"))
    first = layout.filename("/first/1.2.840.nii.gz")
    assert first == tmp_path / "masks" / "1.2.840.nii.gz"
    assert layout.filename("/first/1.2.840.nii.gz") == first
    with pytest.raises(OutputError, match="OUTPUT_COLLISION"):
        layout.filename("/second/1.2.840.nii.gz")


def test_channels_share_one_mask(tmp_path):
    for name in ("x_0000.nii.gz", "x_0001.nii.gz"):
        (tmp_path / name).touch()
    layout = CaseLayout(str(tmp_path / "masks"), str(tmp_path), channels=2)
    assert layout.filename(str(tmp_path / "x_0000.nii.gz")).name == "x.nii.gz"


def test_patches_and_further_keys_are_told_apart(tmp_path):
    layout = CaseLayout(str(tmp_path / "masks"), str(tmp_path / "nowhere"))
    names = [layout.filename("a.nii.gz", idx=patch, phase="late").name for patch in (0, 1)]
    assert names == ["a_0_phase-late.nii.gz", "a_1_phase-late.nii.gz"]
