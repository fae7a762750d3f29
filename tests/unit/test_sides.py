"""Tensors of other sides than the network's: told. A sample; `faults/sides.py` tries every side of every tensor."""

import sys
from pathlib import Path

import pytest

import sdcpp_py
from sdcpp_py.errors import UnsupportedModelError

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import sides
import tiny


@pytest.mark.parametrize("family", sides.FAMILIES)
def test_a_changed_side_is_told_or_runs(tmp_path, family):
    counts, problems = sides.sweep(family, tmp_path, every=97, first=13)
    assert not problems and counts["told"] > 10


@pytest.mark.parametrize(
    ("family", "part", "tensor"),
    [
        ("z-image", "transformer", "layers.1.adaLN_modulation.0.weight"),
        ("z-image", "transformer", "noise_refiner.0.adaLN_modulation.0.weight"),
        ("z-image", "transformer", "all_final_layer.2-1.adaLN_modulation.1.weight"),
        ("flux.1", "transformer", "single_transformer_blocks.0.proj_out.weight"),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 2])
def test_what_a_layer_takes_is_told_by_what_comes_before_it(tmp_path, family, part, tensor, factor):
    folder = sides.write(tmp_path, family)
    path = folder / part / "diffusion_pytorch_model.safetensors"
    tensors = sides.read(path)
    rows, columns = tensors[tensor].shape
    tensors[tensor] = sides.np.resize(tensors[tensor], (rows, int(columns * factor)))
    tiny.write_safetensors(path, tensors)
    with pytest.raises(UnsupportedModelError, match="expected"):
        sdcpp_py.Pipeline(folder)
