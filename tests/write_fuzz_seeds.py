"""Small good files of every format, for the fuzzer to start from: write_fuzz_seeds.py FOLDER."""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "unit")]

from test_formats import write_gguf, write_torch_zip
from tiny import write_safetensors


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"down_blocks.0.resnets.0.conv1.weight": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}
    write_safetensors(folder / "a.safetensors", tensors, {"k": "v"})
    write_gguf(folder / "a.gguf", tensors, {"general.name": "x"})
    write_torch_zip(folder / "a.pt", tensors)


if __name__ == "__main__":
    main()
