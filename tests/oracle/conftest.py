import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def randn():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator)


def relative_error(ours, reference):
    """Largest difference as a share of the reference's largest value."""
    expected = reference.detach().numpy() if isinstance(reference, torch.Tensor) else reference
    return float(np.abs(ours.reshape(expected.shape) - expected).max() / np.abs(expected).max())


@pytest.fixture
def error():
    return relative_error
