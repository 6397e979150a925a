"""An exported bundle that gives other logits or masks than the bundle is not kept."""

import pytest

from medseg.bundle.load import open_bundle
from medseg.errors import BundleError
from medseg.inference import export as exporting
from medseg.inference import predictor
from medseg.inference.boxes import choose_region
from medseg.inference.export import describe, export, make_phantom
from medseg.inference.predict import open_predictor
from medseg.inference.windows import lay_windows
from medseg.options import PredictOptions


def test_an_export_that_disagrees_is_not_kept(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_DISAGREES"
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "PROBABILITY_TOLERANCE", -1.0)
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_DISAGREES"
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_an_export_that_crops_otherwise_than_the_bundle_is_not_kept(tiny_bundle, tmp_path, monkeypatch):
    cropped = []

    def nothing_to_run_in_the_second(image, *how):
        cropped.append(image.shape)
        return choose_region(image, *how) if len(cropped) == 1 else None

    monkeypatch.setattr(predictor, "choose_region", nothing_to_run_in_the_second)
    with pytest.raises(BundleError) as caught:
        export(tiny_bundle, tmp_path / "out", to="onnx")
    assert caught.value.code == "EXPORT_DISAGREES"
    assert len(cropped) == 2
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize(("is_surrounded", "is_cropped"), [(False, False), (True, True)])
def test_the_phantom_that_is_cropped_has_padding_around_it(miniature, tmp_path, is_surrounded, is_cropped):
    bundle = open_bundle(miniature("volumes")[0])
    model = describe(bundle, "onnx")
    case = make_phantom(model, tmp_path, is_surrounded)
    image = open_predictor(bundle, PredictOptions(device="cpu", backend="torch")).prepare(case).image.numpy()
    box = choose_region(image, lay_windows(image.shape[1:], model.window), model.air, lambda _: True)
    assert ([part.stop - part.start for part in box] != list(image.shape[1:])) == is_cropped
