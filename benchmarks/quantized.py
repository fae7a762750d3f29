"""The effect of quantized weights on pictures: PSNR against f32 for each type.

usage: python benchmarks/quantized.py [MODEL] [--pictures 16] [--json FILE]

The model's weights are widened to f32, then quantized to each type; pictures of the same seeds are compared. The embedded model
is stored in q8_0, q5_0 and f16 itself, so its f32 is what those hold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import sdcpp_py
from sdcpp_py import convert

TYPES = ("f16", "bf16", "q8_0", "q6_K", "q5_K", "q5_0", "q4_K", "q4_0", "q3_K", "q2_K")
PROMPTS = (
    "a red circle left of a blue square on a white background",
    "a large yellow star",
    "a small green triangle above a purple ring",
    "an orange square below a black circle on a gray background",
)


def pictures(model: Path, wtype: str, count: int) -> np.ndarray:
    with sdcpp_py.Pipeline(model, wtype=wtype) as pipeline:
        made = [pipeline.generate(PROMPTS[seed % len(PROMPTS)], seed=seed, progress=False).images[0] for seed in range(count)]
    return np.stack([np.asarray(image, np.float64) for image in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = options.model or sdcpp_py._embedded.embedded_model()
        exact = convert(source, Path(folder) / "f32.gguf", wtype="f32")
        reference = pictures(exact, "f32", options.pictures)
        print(f"{'type':6} {'file':>10} {'PSNR':>9} {'worst picture':>14}")
        for wtype in TYPES:
            size = convert(exact, Path(folder) / "one.gguf", wtype=wtype).stat().st_size
            errors = ((pictures(exact, wtype, options.pictures) - reference) ** 2).mean(axis=(1, 2, 3))
            each = 10 * np.log10(255**2 / np.maximum(errors, 1e-10))
            mean = 10 * np.log10(255**2 / max(errors.mean(), 1e-10))
            print(f"{wtype:6} {size / 2**20:6.1f} MiB {mean:6.1f} dB {each.min():11.1f} dB", flush=True)
            rows.append({"type": wtype, "bytes": size, "psnr_db": mean, "worst_db": each.min()})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
