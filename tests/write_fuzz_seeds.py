"""Small good files of every format, for the fuzzer to start from: write_fuzz_seeds.py FOLDER."""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "unit")]

import hollow
import packed
from test_formats import write_gguf, write_torch_zip
from tiny import write_safetensors


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"down_blocks.0.resnets.0.conv1.weight": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}
    write_safetensors(folder / "a.safetensors", tensors, {"k": "v"})
    write_gguf(folder / "a.gguf", tensors, {"general.name": "x"})
    write_torch_zip(folder / "a.pt", tensors)
    beside = hollow.pickled("x") + hollow.pickled({"a": {1, 2}, "b": b"bytes", "c": 2**80, "d": np.float64(1), "e": [1.5, None]})
    hollow.torch_zip(folder / "b.pt", {"a.weight": ("F32", (2, 3)), "b": ("F16", (4,))}, beside)
    scales = {"a.weight_scale": ("F32", (2, 1)), "b.scale_weight": ("F32", ()), "c.weight_scale_inv": ("F32", (2, 2))}
    matrices = {"a.weight": ("F8_E4M3", (2, 3)), "b.weight": ("F8_E5M2", (2, 3)), "c.weight": ("F8_E4M3", (129, 130))}
    hollow.safetensors(
        folder / "b.safetensors", matrices | scales, {"_quantization_metadata": '{"layers": {"a": {"format": "x"}}}'}
    )
    for number, kind in enumerate(packed.FORMATS):
        small, metadata, _ = packed.pack({"a.weight": np.zeros((2, 64))}, lambda x, shape, kind=kind: kind, number % 2 == 0)
        write_safetensors(folder / f"packed_{number}.safetensors", small, metadata)
    hollow.gguf(folder / "b.gguf", {"a.weight": ("q4_K", (8, 256))}, {"comfy.gguf.orig_shape.a.weight": [64, 32]})


if __name__ == "__main__":
    main()
