"""What another runtime made is trusted without a comparison only where it is whole, and was compared here."""

import pytest
import torch

from medseg.inference.runtimes import backends, conversion
from medseg.inference.runtimes.backends import build_backend
from medseg.inference.runtimes.conversion import CachedModel, find_cache_folder, fingerprint
from medseg.inference.windows import Windowing
from medseg.networks import build_network

WINDOWING = Windowing(2, 1, (16, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2}).eval()


def test_another_processor_compares_for_itself(network, tmp_path, monkeypatch):
    here = CachedModel.of("name", WINDOWING, tmp_path)
    monkeypatch.setattr(conversion, "identify_cpu", lambda: "another")
    assert CachedModel.of("name", WINDOWING, tmp_path) != here


def test_other_weights_or_windows_are_another_network_and_other_batches_are_not(network):
    before, smaller = fingerprint(network, WINDOWING, "1"), Windowing(2, 1, (16, 16, 8))
    changed = build_network("res-unet", 3, 1, 3, {"filters": 4, "depth": 2})
    assert before == fingerprint(network, Windowing(1, 1, (16, 16, 16)), "1")
    others = [(changed, WINDOWING, "1"), (network, smaller, "1"), (network, WINDOWING, "2")]
    assert len({before, *(fingerprint(*each) for each in others)}) == 4


def test_networks_that_differ_in_a_plain_attribute_have_other_names():
    names = {
        fingerprint(torch.nn.Upsample(scale_factor=2, mode="trilinear", align_corners=how), WINDOWING, "1")
        for how in (True, False)
    }
    assert len(names) == 2
    assert None not in names


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


def test_what_differs_is_not_kept(network, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(backends, "measure_difference", lambda *_: 2 * backends.TOLERANCE)
    assert build_backend(network, "openvino", WINDOWING, tmp_path).note.code == "BACKEND_DISAGREES"
    assert not list(tmp_path.glob("*.blob"))


def test_nothing_is_kept_where_nothing_is_to_be(network, tmp_path):
    pytest.importorskip("openvino")
    assert build_backend(network, "openvino", WINDOWING, tmp_path / "cache", keeps=False).note is None
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_fails_nothing(network, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "file").write_text("no folder")
    assert build_backend(network, "openvino", WINDOWING, tmp_path / "file" / "cache").note is None


def test_bytes_are_read_again_with_the_difference_and_not_without_it(tmp_path):
    kept = CachedModel.of("name", WINDOWING, tmp_path / "below")
    assert kept.read() is None
    kept.write(b"compiled", 0.25)
    assert kept.read() == (b"compiled", 0.25)
    assert CachedModel.of("name", Windowing(1, 1, (16, 16, 16)), tmp_path / "below").read() is None


def test_the_cache_folder_is_the_user_s(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache_folder() == tmp_path / "medseg" / "backends"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert find_cache_folder().parts[-3:] == (".cache", "medseg", "backends")


def test_a_network_whose_operations_depend_on_values_has_no_name():
    class Peeking(torch.nn.Module):
        def forward(self, windows):
            return windows if windows.sum() > 0 else -windows

    assert fingerprint(Peeking(), WINDOWING, "1") is None
