"""ONNX Runtime takes batches of any size, and what it raises is no surprise."""

import pytest
import torch

from medseg.inference.runtimes import conversion
from medseg.inference.runtimes.backends import build_backend
from medseg.inference.runtimes.conversion import build_onnx, convert_to_onnx
from medseg.inference.windows import Windowing
from medseg.networks import build_network

WINDOWING = Windowing(2, 1, (16, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2}).eval()


def test_what_onnx_runtime_raises_is_a_fallback(network, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(conversion, "convert_to_onnx", lambda *_: b"no model")
    assert build_backend(network, "onnx", WINDOWING).note.code == "BACKEND_FAILED"


def test_more_windows_than_it_was_made_for_are_run_at_once(network):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    windows = torch.randn(3, 1, 16, 16, 16)
    with torch.no_grad():
        found = build_onnx(network, WINDOWING, None, True).run(windows)
        torch.testing.assert_close(found, network(windows), atol=1e-4, rtol=1e-3)


def test_the_model_names_what_goes_in_and_what_comes_out(network):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(convert_to_onnx(network, WINDOWING)).graph
    assert [each.name for each in graph.input] == ["image"]
    assert [each.name for each in graph.output] == ["logits"]
