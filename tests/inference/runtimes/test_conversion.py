"""OpenVINO converts a network once, gives results that stay, and sends nothing anywhere."""

import pytest
import torch

from medseg.inference.runtimes import backends, conversion
from medseg.inference.runtimes.backends import build_backend
from medseg.inference.runtimes.conversion import build_openvino, save_openvino_model
from medseg.inference.windows import Windowing
from medseg.networks import build_network

WINDOWING = Windowing(2, 1, (16, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2}).eval()


def test_what_a_runtime_gave_stays_when_it_runs_again(network):
    """Averages over mirrorings hold one result while the next is made."""
    pytest.importorskip("openvino")
    run = build_backend(network, "openvino", WINDOWING).run
    first = run(torch.ones(WINDOWING.shape))
    kept = first.clone()
    run(torch.randn(WINDOWING.shape))
    torch.testing.assert_close(first, kept)


@pytest.fixture
def no_work(monkeypatch):
    """From now on neither converting nor comparing with PyTorch is allowed."""

    def forbid():
        monkeypatch.setattr(conversion, "convert_to_openvino", lambda *_: pytest.fail("converted again"))
        monkeypatch.setattr(backends, "measure_difference", lambda *_: pytest.fail("compared again"))

    return forbid


def test_a_compiled_network_that_was_compared_is_kept_and_trusted(network, tmp_path, no_work):
    pytest.importorskip("openvino")
    windows = torch.randn(WINDOWING.shape)
    first = build_backend(network, "openvino", WINDOWING, tmp_path).run(windows)
    no_work()
    again = build_backend(network, "openvino", WINDOWING, tmp_path)
    assert again.name == "openvino"
    assert torch.equal(again.run(windows), first)


def test_other_batches_take_the_kept_conversion_but_are_compared_themselves(network, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    build_backend(network, "openvino", WINDOWING, tmp_path)
    monkeypatch.setattr(conversion, "convert_to_openvino", lambda *_: pytest.fail("converted again"))
    compared = []
    monkeypatch.setattr(backends, "measure_difference", lambda *given: compared.append(given) or 0.0)
    single = build_backend(network, "openvino", Windowing(1, 1, (16, 16, 16)), tmp_path)
    windows = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(single.run(windows), network(windows), atol=1e-4, rtol=1e-3)
    assert len(compared) == 1


def test_a_damaged_conversion_is_made_again(network, tmp_path):
    pytest.importorskip("openvino")
    build_backend(network, "openvino", WINDOWING, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:10])
    assert build_backend(network, "openvino", WINDOWING, tmp_path).note is None
    assert next(tmp_path.glob("*.xml")).stat().st_size > 10


def test_nothing_is_sent_anywhere(network, monkeypatch):
    telemetry = pytest.importorskip("openvino_telemetry")
    monkeypatch.setattr(telemetry.Telemetry, "__init__", lambda *_, **__: pytest.fail("statistics of use are sent"))
    assert build_backend(network, "openvino", WINDOWING).note is None


def test_an_exported_model_takes_any_number_of_windows(network, tmp_path):
    openvino = pytest.importorskip("openvino")
    save_openvino_model(network, WINDOWING, tmp_path / "network.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.bin", "network.xml"]
    compiled = openvino.Core().compile_model(str(tmp_path / "network.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    windows = torch.randn(3, 1, 16, 16, 16)
    with torch.no_grad():
        found = torch.from_numpy(compiled([windows.numpy()])[compiled.output(0)])
        torch.testing.assert_close(found, network(windows), atol=1e-4, rtol=1e-3)


def test_without_a_cache_it_runs_and_is_not_said_to_be_compared(network):
    pytest.importorskip("openvino")
    built = build_openvino(network, WINDOWING, None, True)
    assert built.difference is None
    assert built.run(torch.zeros(WINDOWING.shape)).shape == (2, 3, 16, 16, 16)
