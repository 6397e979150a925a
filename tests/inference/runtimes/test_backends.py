"""PyTorch itself is the oracle of every other runtime; those that are not installed are passed over."""

import importlib.util

import pytest
import torch

from medseg.errors import UsageError
from medseg.inference.runtimes import backends, model_cache, onnx_runtime, openvino_runtime, torch_runtime
from medseg.inference.runtimes.backends import Backend, build_backend, choose_backend
from medseg.inference.runtimes.model_cache import CachedModel, fingerprint
from medseg.inference.runtimes.torch_runtime import Built
from medseg.inference.windows import Windowing
from medseg.networks import build_network

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


def test_what_a_runtime_gave_stays_when_it_runs_again(network):
    """Averages over mirrorings hold one result while the next is made."""
    pytest.importorskip("openvino")
    run = build_backend(network, "openvino", WINDOWING).run
    first = run(torch.ones(WINDOWING.shape))
    kept = first.clone()
    run(torch.randn(WINDOWING.shape))
    torch.testing.assert_close(first, kept)


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


@pytest.fixture
def no_work(monkeypatch):
    """From now on neither converting nor comparing with PyTorch is allowed."""

    def forbid():
        monkeypatch.setattr(openvino_runtime, "convert_to_openvino", lambda *_: pytest.fail("converted again"))
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
    monkeypatch.setattr(openvino_runtime, "convert_to_openvino", lambda *_: pytest.fail("converted again"))
    compared = []
    monkeypatch.setattr(backends, "measure_difference", lambda *given: compared.append(given) or 0.0)
    single = build_backend(network, "openvino", Windowing(1, 1, (16, 16, 16)), tmp_path)
    windows = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(single.run(windows), network(windows), atol=1e-4, rtol=1e-3)
    assert len(compared) == 1


def spoil_one_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_one_byte,
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.with_suffix(".json").write_text("[1"),
        lambda path: path.with_suffix(".json").write_text('{"sha256": 1}'),
        lambda path: path.with_suffix(".json").unlink(),
    ],
)
def test_what_was_kept_is_not_trusted_once_it_is_damaged(network, tmp_path, monkeypatch, spoil):
    pytest.importorskip("openvino")
    build_backend(network, "openvino", WINDOWING, tmp_path)
    (blob,) = tmp_path.glob("*.blob")
    spoil(blob)
    compared = []
    monkeypatch.setattr(backends, "measure_difference", lambda *given: compared.append(given) or 0.0)
    for _ in range(2):
        assert build_backend(network, "openvino", WINDOWING, tmp_path).note is None
    assert len(compared) == 1  # And what replaced it is kept.


def test_a_damaged_conversion_is_made_again(network, tmp_path):
    pytest.importorskip("openvino")
    build_backend(network, "openvino", WINDOWING, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:10])
    assert build_backend(network, "openvino", WINDOWING, tmp_path).note is None
    assert next(tmp_path.glob("*.xml")).stat().st_size > 10


def test_what_differs_is_not_kept(network, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(backends, "measure_difference", lambda *_: 2 * backends.TOLERANCE)
    assert build_backend(network, "openvino", WINDOWING, tmp_path).note.code == "BACKEND_DISAGREES"
    assert not list(tmp_path.glob("*.blob"))


def test_another_processor_compares_for_itself(network, tmp_path, monkeypatch):
    here = CachedModel.of("name", WINDOWING, tmp_path)
    monkeypatch.setattr(model_cache, "identify_cpu", lambda: "another")
    assert CachedModel.of("name", WINDOWING, tmp_path) != here


def test_nothing_is_kept_where_nothing_is_to_be(network, tmp_path):
    pytest.importorskip("openvino")
    assert build_backend(network, "openvino", WINDOWING, tmp_path / "cache", keeps=False).note is None
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_fails_nothing(network, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "file").write_text("no folder")
    assert build_backend(network, "openvino", WINDOWING, tmp_path / "file" / "cache").note is None


def test_what_onnx_runtime_raises_is_a_fallback(network, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_runtime, "convert_to_onnx", lambda *_: b"no model")
    assert build_backend(network, "onnx", WINDOWING).note.code == "BACKEND_FAILED"


def test_nothing_is_sent_anywhere(network, monkeypatch):
    telemetry = pytest.importorskip("openvino_telemetry")
    monkeypatch.setattr(telemetry.Telemetry, "__init__", lambda *_, **__: pytest.fail("statistics of use are sent"))
    assert build_backend(network, "openvino", WINDOWING).note is None


def test_other_weights_or_windows_are_another_network_and_other_batches_are_not(network):
    before, smaller = fingerprint(network, WINDOWING, "1"), Windowing(2, 1, (16, 16, 8))
    changed = build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2})
    assert before == fingerprint(network, Windowing(1, 1, (16, 16, 16)), "1")
    others = [(changed, WINDOWING, "1"), (network, smaller, "1"), (network, WINDOWING, "2")]
    assert len({before, *(fingerprint(*each) for each in others)}) == 4


def test_auto_converts_only_what_is_worth_it(network, monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    assert choose_backend("auto", network, 16**3) == "torch"
    assert choose_backend("auto", network, 10**12) == "openvino"
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    assert choose_backend("auto", network, 10**12) == "torch"


def test_pytorch_is_the_network_itself(network):
    assert build_backend(network, "torch", WINDOWING) == Backend("torch", network)


def test_an_unknown_runtime_is_refused(network):
    with pytest.raises(UsageError, match="BACKEND_UNKNOWN"):
        build_backend(network, "abacus", WINDOWING)


def test_networks_that_differ_in_a_plain_attribute_have_other_names():
    names = {
        fingerprint(torch.nn.Upsample(scale_factor=2, mode="trilinear", align_corners=how), WINDOWING, "1")
        for how in (True, False)
    }
    assert len(names) == 2
    assert None not in names
