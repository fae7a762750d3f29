"""Text to picture, as a user meets it: the embedded model as a whole process, and a true-size Stable Diffusion 1.5.

usage: python benchmarks/text_to_image.py [--sd15 FILE] [--rounds N] [--json FILE] [--diffusers]
`--sd15` names a checkpoint written by `python benchmarks/random_sd15.py FILE` (random weights, 2.1 GB). With `--diffusers`,
diffusers in f32 runs the same networks in turn with ours, round by round. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROMPT = "a red circle left of a blue square on a white background"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def child(command: list[str], folder: str) -> tuple[float, float]:
    """Wall seconds and peak resident MB of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def embedded(rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        generate = [sys.executable, "-m", "sdcpp_py", "generate", PROMPT, "-s", "1"]
        bare = [sys.executable, "-c", "pass"]
        imports = [sys.executable, "-c", "import sdcpp_py"]
        child(generate, folder)
        runs = [(child(generate, folder), child(imports, folder), child(bare, folder)) for _ in range(rounds)]
    return {
        "picture, whole process (s)": statistics.median(run[0][0] for run in runs),
        "picture, peak resident memory (MB)": statistics.median(run[0][1] for run in runs),
        "import sdcpp_py (s)": statistics.median(run[1][0] - run[2][0] for run in runs),
    }


def ours(path: Path, rounds: int) -> tuple[dict[str, float], object]:
    import sdcpp_py

    opening, encoding = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        pipeline = sdcpp_py.Pipeline(path)
        opening.append(time.perf_counter() - start)
        result = pipeline.generate(PROMPT, width=64, height=64, steps=1, seed=1)
        encoding.append(result.timings["encode"])
        pipeline.close()
    first = [a + b for a, b in zip(opening, encoding)]
    figures = {"open the files (s)": statistics.median(opening), "open and read both prompts (s)": statistics.median(first)}
    return figures, sdcpp_py.Pipeline(path)


def true_size(path: Path, rounds: int, with_diffusers: bool) -> dict[str, float]:
    figures, pipeline = ours(path, rounds)
    rng = np.random.default_rng(0)
    x, context = rng.standard_normal((1, 4, 64, 64), np.float32), rng.standard_normal((1, 77, 768), np.float32)
    latent = rng.standard_normal((4, 64, 64), np.float32)
    runs = {
        "UNet, 512x512, batch 1": lambda: pipeline.evaluate("unet", x=x, timesteps=np.array([500.0]), context=context),
        "VAE decode, 512x512": lambda: pipeline.decode(latent, vae_tiling=False),
    }
    peers = diffusers_runs(x, context, latent) if with_diffusers else {}
    for name, run in runs.items():
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for who, work in (("ours", run), ("diffusers f32", peers.get(name))):
                if work is None:
                    continue
                start = time.perf_counter()
                work()
                times.setdefault(who, []).append(time.perf_counter() - start)
        for who, seconds in times.items():
            figures[f"{name}, {who} (s)"] = statistics.median(seconds)
    return figures


def diffusers_runs(x: np.ndarray, context: np.ndarray, latent: np.ndarray) -> dict[str, object]:
    """The same networks with random weights: their speed does not depend on the values."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.set_grad_enabled(False)
    down = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=768,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )
    unet, vae = (net.eval().to(memory_format=torch.channels_last) for net in (unet, vae))
    inputs = [torch.from_numpy(array) for array in (x, context, latent[None])]
    return {
        "UNet, 512x512, batch 1": lambda: unet(inputs[0], torch.tensor([500.0]), inputs[1]),
        "VAE decode, 512x512": lambda: vae.decode(inputs[2]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd15", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = embedded(options.rounds)
    if options.sd15:
        figures |= true_size(options.sd15, min(3, options.rounds), options.diffusers)
    print(f"{processor()}, {os.cpu_count()} cores")
    for name, value in figures.items():
        print(f"  {name:44} {value:10.2f}")
    if options.json:
        options.json.write_text(json.dumps({"processor": processor(), "cores": os.cpu_count(), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
