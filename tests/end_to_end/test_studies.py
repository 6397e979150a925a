"""Each study's bundle on a miniature of its published data set: trained, run, scored."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import medseg
from medseg.bundle.settings import read_settings
from medseg.data.cases import open_images
from medseg.data.read import read
from medseg.networks import PUBLISHED, build_network, count_parameters
from medseg.options import EvaluateOptions, TrainOptions
from medseg.training.scoring import score_part
from tests.conftest import ROOT
from tests.end_to_end.miniatures import STUDIES

TINY = {"network_options::filters": 2, "epochs": 1}
SLOW = {("brats2020_mr_segmentation", "volumetric"), ("lung_ct_dicom_segmentation", "volumetric")}
FORMS = [
    pytest.param(path.stem, form, marks=[pytest.mark.slow] if (path.stem, form) in SLOW else [])
    for path in sorted((ROOT / "tools" / "bundle_src").glob("*.yaml"))
    for form in ("", *read_settings(path).forms)
    if path.stem in STUDIES and form != "small"
]


@pytest.fixture
def data(request, tmp_path):
    STUDIES[request.param](tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(("name", "data"), [(name, name) for name in STUDIES], indirect=["data"])
def test_a_study_trains_and_is_scored_on_its_published_layout(name, data, tmp_path):
    run = medseg.train(name, data, tmp_path / "run", options=TrainOptions(form="small", settings=TINY, new_split=True))
    assert (run.folder / "models" / "model.pt").is_file()
    evaluation = score_part(run.folder, data, "test" if name != "lung_ct_slices_segmentation" else "validation")
    assert evaluation.errors == ()
    assert evaluation.missing == ()
    assert {row.status for row in evaluation.rows} == {"scored"}
    case = next(iter(evaluation.confusions))
    counts = np.asarray(evaluation.confusions[case]).sum(axis=1)
    assert counts.tolist() == np.bincount(true_labels(name, data, case).ravel(), minlength=len(counts)).tolist()


def true_labels(name, data, case):
    """The labels of a case as its publisher means them, without medseg's reading of its layout."""
    files = {
        "lung2d_xray_segmentation": lambda: [
            data / "ManualMask" / side / f"{case}.png" for side in ("leftMask", "rightMask")
        ],
        "brats2020_mr_segmentation": lambda: [data / case / f"{case}_seg.nii.gz"],
        "lung_ct_slices_segmentation": lambda: [data / "2d_masks" / f"{case}.tif"],
        "lung_ct_dicom_segmentation": lambda: [data / f"{case}.npz"],
        "lgg_mr_segmentation": lambda: list(data.rglob(f"{case}_mask.tif")),
        "polyp_endoscopy_segmentation": lambda: [data / "Ground Truth" / f"{case}.tif"],
        "acdc_mr_segmentation": lambda: list(data.rglob(f"{case}_gt.nii.gz")),
        "isbi_em_segmentation": lambda: [data / "train-labels.tif"],
    }[name]()
    if name.startswith(("brats", "acdc")):
        labels = np.asarray(nibabel.load(files[0]).dataobj)
        return np.where(labels == 4, 3, labels) if name.startswith("brats") else labels
    if name.startswith("lung_ct_dicom"):
        return np.load(files[0])["arr_0"]
    pictures = [Image.open(file) for file in files]
    if name.startswith("isbi"):
        pictures[0].seek(int(case.rpartition("_")[2]))
    return np.max([np.asarray(picture) > 0 for picture in pictures], axis=0).astype(np.uint8)


@pytest.mark.parametrize(("name", "data"), [(name, name) for name in STUDIES], indirect=["data"])
def test_a_study_s_images_are_found_segmented_and_scored_as_they_are_published(name, data, tmp_path):
    """The networks are as they come, but small: what counts is that images go in and masks come out."""
    bundle = tmp_path / name
    shutil.copytree(ROOT / "bundles" / name, bundle)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["network_options"] |= {"filters": 2}
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    (bundle / "models").mkdir(exist_ok=True)
    definition = config["network_def"]
    sizes = [definition[key] for key in ("spatial_dims", "in_channels", "out_channels")]
    network = build_network(config["network_name"], *sizes, unet_options=config["network_options"])
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    found = medseg.predict(bundle, data, tmp_path / "masks")
    assert [record.error for record in found.records] == [None] * len(found.records)
    images = {case.id: case.images[0] for case in open_images(data, found_channels(name))}
    assert images.keys() == {record.case for record in found.records}
    for record in found.records:
        assert read(tmp_path / "masks" / str(record.mask)).grid.shape == read(images[record.case]).grid.shape
    options = EvaluateOptions(renamed={4: 3} if name.startswith("brats") else {})
    evaluation = medseg.evaluate(tmp_path / "masks", data, options=options, progress=False)
    assert (evaluation.errors, evaluation.missing, evaluation.unmatched) == ((), (), ())
    assert evaluation.confusions.keys() == images.keys()
    for case, table in evaluation.confusions.items():
        truth = np.bincount(true_labels(name, data, case).ravel(), minlength=len(table))
        assert table.sum(axis=1).tolist() == truth.tolist(), case


def found_channels(name):
    settings = read_settings(ROOT / "tools" / "bundle_src" / f"{name}.yaml")
    return settings.channels if settings.named_channels else len(settings.channels)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_study_trains_and_predicts_in_every_other_form_too(name, form, tmp_path):
    STUDIES[name](tmp_path / "data")
    options = TrainOptions(form=form or None, settings=TINY)
    run = medseg.train(name, tmp_path / "data", tmp_path / "run", options=options)
    found = medseg.predict(run.folder, tmp_path / "data", tmp_path / "masks")
    assert {record.error for record in found.records} == {None}
    metadata = json.loads((run.folder / "configs" / "metadata.json").read_text())
    axes = len(metadata["network_data_format"]["inputs"]["image"]["spatial_shape"])
    assert axes == (3 if form == "volumetric" else 2)


@pytest.mark.parametrize(
    ("bundle", "published"),
    [
        ("polyp_endoscopy_segmentation", "unet_variants/unet/rgb"),
        ("lgg_mr_segmentation", "unet_variants/unet/rgb"),
        ("acdc_mr_segmentation", "unet_variants/unet/heart"),
        ("isbi_em_segmentation", "isbi_and_lung/unet/64"),
        ("lung_ct_slices_segmentation", "isbi_and_lung/unet/16"),
    ],
)
def test_a_study_trains_its_network_at_the_published_size(bundle, published):
    config = json.loads((ROOT / "bundles" / bundle / "configs" / "train.json").read_text())
    definition = config["network_def"]
    network = build_network(
        config["network_name"],
        definition["spatial_dims"],
        definition["in_channels"],
        definition["out_channels"],
        unet_options=config["network_options"],
    )
    assert count_parameters(network) == PUBLISHED[published].parameters
