import torch

from medseg.training.precision import MixedPrecisionInferer


def test_results_are_float32_and_close_to_full_precision():
    torch.manual_seed(0)
    network, image = torch.nn.Conv3d(2, 3, 3), torch.randn(1, 2, 8, 8, 8)
    full = MixedPrecisionInferer(False)(image, network)
    mixed = MixedPrecisionInferer(True)(image, network)
    assert mixed.dtype == torch.float32
    assert torch.allclose(full, mixed, atol=0.05)
    assert not torch.equal(full, mixed)
    assert torch.equal(full, network(image))
