"""Loading of packed weights: processor seconds for each GB of file and for a billion weights, beside f8.

usage: python benchmarks/packed_loading.py [FORMAT…] [--layers 2] [--folder FOLDER] [--json FILE]

A Z-Image transformer of true widths and few layers is written in each format, with random codes. It runs twice on a tiny input.
The first run loads the weights, so the difference is the time of loading: reading what the system has cached, computing the
values and rounding them to the type on the device. Here one thread does that. Its processor time is counted, so that other
programs on the machine matter less.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import sdcpp_py

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import packed
import tiny


def f8(rng: np.random.Generator, x: str, shape: tuple[int, ...]) -> tuple[dict[str, Any], None, None]:
    return {f"{x}.weight": rng.integers(0x18, 0x28, shape, np.uint8)}, None, None


def scaled_f8(rng: np.random.Generator, x: str, shape: tuple[int, ...]) -> tuple[dict[str, Any], None, None]:
    return {**f8(rng, x, shape)[0], f"{x}.weight_scale": np.float32(0.5)}, None, None


FORMATS = {"f8": f8, "scaled f8": scaled_f8, **packed.FORMATS}


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Z-Image's transformer with so many layers, and one block of each refiner."""
    text = gzip.decompress((resources.files("sdcpp_py") / "data" / "tensor_shapes.json.gz").read_bytes())

    def kept(name: str) -> bool:
        found = re.match(r"(\w+)\.(\d+)\.", name)
        return not found or "embedder" in name or int(found[2]) < (layers if found[1] == "layers" else 1)

    return {name: tuple(shape) for name, shape in json.loads(text)["z-image"].items() if kept(name)}


def write(path: Path, layers: int, kind: str) -> tuple[int, int]:
    """The file; returns the bytes and the number of its packed weights."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    made: dict[tuple[int, ...], Any] = {}  # matrices of one shape have the same codes
    size = count = 0
    for name, shape in shapes(layers).items():
        x = name.removesuffix(".weight")
        if len(shape) != 2 or not re.search(r"layers|refiner", name):
            tensors[name] = np.ones(shape, np.float32) if len(shape) == 1 else np.zeros(shape, np.float16)
            continue
        if shape not in made:
            made[shape] = FORMATS[kind](rng, "", shape)[:2]
        parts, mark = made[shape]
        tensors |= {x + end: part for end, part in parts.items()}
        size += sum((part[1] if isinstance(part, tuple) else part).nbytes for part in parts.values())
        count += int(np.prod(shape))
        if mark:
            marks[x] = mark
    small, metadata = packed.marked(tensors, marks, in_metadata=True)
    tiny.write_safetensors(path, small, metadata)
    return size, count


def loading(path: Path) -> float:
    """Processor seconds of loading, the least of three."""
    inputs = {"x": np.zeros((1, 16, 8, 8)), "context": np.zeros((1, 32, 2560)), "timesteps": np.array([500.0])}
    path.read_bytes()  # into the system's cache
    best = np.inf
    for _ in range(3):
        with sdcpp_py.Pipeline(diffusion_model=path, max_vram=0, threads=1) as pipeline:
            times = []
            for _ in range(3):
                start = time.process_time()
                pipeline.evaluate("z_image", **inputs)
                times.append(time.process_time() - start)
        best = min(best, times[0] - min(times[1:]))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(f"{'format':24} {'bits a weight':>13} {'s per GB of file':>17} {'s per 1e9 weights':>18}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for kind in arguments.formats or FORMATS:
            path = Path(folder) / "model.safetensors"
            size, count = write(path, arguments.layers, kind)
            seconds = loading(path)
            row = {"format": kind, "bits": 8 * size / count, "per_gb": seconds / size * 1e9, "per_weights": seconds / count * 1e9}
            print(f"{kind:24} {row['bits']:13.2f} {row['per_gb']:17.2f} {row['per_weights']:18.2f}", flush=True)
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
