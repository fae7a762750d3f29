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


def assert_same_pictures(found, theirs, **arguments):
    """`found` against the picture that diffusers' pipeline `theirs` makes: 99.9% of pixels within 1/255."""
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(**arguments, output_type="np").images[0]
    difference = np.abs(np.asarray(found).astype(int) - np.round(expected * 255).astype(int))
    assert np.asarray(found).std() > 10, "a flat picture proves nothing"
    assert (difference.max(-1) <= 1).mean() >= 0.999


@pytest.fixture
def same_pictures():
    return assert_same_pictures
