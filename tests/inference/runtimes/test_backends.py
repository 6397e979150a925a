"""PyTorch itself is the oracle of every other runtime; those that are not installed are passed over."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from medseg.errors import UsageError
from medseg.inference.runtimes import backends, torch_runtime
from medseg.inference.runtimes.backends import RUNTIMES, Backend, build_backend, choose_backend
from medseg.inference.runtimes.torch_runtime import Built
from medseg.inference.windows import Windowing
from medseg.networks import build_network
from medseg.options import BACKENDS

WINDOWING = Windowing(2, 1, (16, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2}).eval()


@pytest.mark.parametrize(("name", "module"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_another_runtime_gives_the_logits_of_pytorch(network, name, module, tmp_path):
    pytest.importorskip(module)
    pytest.importorskip("onnx")
    backend = build_backend(network, name, WINDOWING, tmp_path)
    windows = torch.randn(1, 1, 16, 16, 16)

    assert (backend.name, backend.note) == (name, None)
    for count in (1, 2):
        batch = windows.expand(count, -1, -1, -1, -1)
        with torch.no_grad():
            torch.testing.assert_close(backend.run(batch), network(batch), atol=1e-4, rtol=1e-3)


def test_a_runtime_that_gives_out_its_own_memory_is_left(network, monkeypatch):
    memory = torch.empty(1, 3, 16, 16, 16)
    monkeypatch.setattr(
        torch_runtime, "build_compiled", lambda *_: Built(lambda windows: memory.copy_(network(windows)))
    )
    assert build_backend(network, "compile", WINDOWING).note.code == "BACKEND_DISAGREES"


def test_a_runtime_that_is_missing_is_said_and_pytorch_runs(network):
    if importlib.util.find_spec("torch_tensorrt"):
        pytest.skip("it is installed here")
    backend = build_backend(network, "tensorrt", WINDOWING)
    assert (backend.name, backend.note.code) == ("torch", "BACKEND_MISSING")
    assert backend.run is network


@pytest.mark.parametrize(
    ("runtime", "code"),
    [
        (lambda windows: 1.01 * torch.ones(len(windows), 3, 16, 16, 16), "BACKEND_DISAGREES"),
        (lambda windows: torch.full((len(windows), 3, 16, 16, 16), float("nan")), "BACKEND_DISAGREES"),
        (lambda windows: torch.zeros(len(windows), 3, 8, 8, 8), "BACKEND_DISAGREES"),
        (lambda windows: (_ for _ in ()).throw(RuntimeError("no such layer")), "BACKEND_FAILED"),
    ],
)
def test_a_runtime_that_disagrees_or_fails_is_left_for_pytorch(network, monkeypatch, runtime, code):
    monkeypatch.setattr(torch_runtime, "build_compiled", lambda *_: Built(runtime))
    backend = build_backend(network, "compile", WINDOWING)
    assert (backend.name, backend.note.code) == ("torch", code)


def test_auto_converts_only_what_is_worth_it(network, monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    assert choose_backend("auto", network, 16**3) == "torch"
    assert choose_backend("auto", network, 10**12) == "openvino"
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    assert choose_backend("auto", network, 10**12) == "torch"


def test_pytorch_is_the_network_itself(network):
    assert build_backend(network, "torch", WINDOWING) == Backend("torch", network)


def test_an_unknown_runtime_is_refused(network):
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
        build_backend(network, "abacus", WINDOWING)


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_row_of_the_table_names_a_builder_and_is_offered(name):
    assert name in BACKENDS
    assert callable(RUNTIMES[name].load_builder())


def test_all_that_is_offered_stands_in_the_table():
    assert {*BACKENDS} == {"auto", "torch", *RUNTIMES}


def test_other_runtimes_are_imported_only_when_they_are_used():
    names = ("conversion", "tuning", "machine")
    unwanted = ("openvino", "onnxruntime", *(f"medseg.inference.runtimes.{name}" for name in names))
    code = f"import sys, medseg.inference.runtimes.network_runner; sys.exit(len({{*sys.modules}} & {{*{unwanted}}}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
