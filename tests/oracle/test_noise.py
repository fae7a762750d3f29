import pytest
import torch

from sdcpp_py import sampling


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 7, 15, 16, 17, 100, 4096, 16384 + 5])
def test_cpu_noise_equals_torch(seed, count):
    expected = torch.randn(count, generator=torch.Generator().manual_seed(seed)).numpy()
    assert abs(sampling.noise((count,), seed, rng="cpu") - expected).max() < 2e-6


def test_later_draws_equal_torch():
    generator = torch.Generator().manual_seed(9)
    for skip in range(3):
        expected = torch.randn(4, 8, 8, generator=generator).numpy()
        assert abs(sampling.noise((4, 8, 8), 9, rng="cpu", skip=skip) - expected).max() < 2e-6
