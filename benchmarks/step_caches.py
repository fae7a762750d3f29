"""Step caches: evaluations saved, time and likeness.

usage: python benchmarks/step_caches.py [MODEL] [--steps N] [--size PIXELS]
       python benchmarks/step_caches.py --transformer [--layers N] [--damped X] [--steps N] [--size PIXELS]

The second form measures a transformer of Z-Image's form with random weights, streamed on the simulated device: how much time and
how many uploads caches save, and how far the latents go. Its embedding of the time is damped, since random ones jump from step to
step.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

import sdcpp_py

PROMPTS = (
    "a red circle left of a blue square on a white background",
    "a large yellow star",
    "a small green triangle on a black background",
)
ROWS = (
    {},
    {"cache_mode": "easycache", "cache_threshold": 0.05},
    {"cache_mode": "easycache", "cache_threshold": 0.1},
    {"cache_mode": "easycache"},
    {"cache_mode": "taylorseer", "cache_interval": 2},
    {"cache_mode": "taylorseer", "cache_interval": 3},
)


WIDTH, HEAD, INNER = 512, (16, 24, 24), 1408
TRANSFORMER_ROWS = (
    *({"cache_mode": "first_block", "cache_threshold": one} for one in (0.05, 0.08, 0.12)),
    {"cache_mode": "easycache", "cache_threshold": 0.05},
    {"cache_mode": "taylorseer", "cache_interval": 2},
)


def write_transformer(folder: Path, layers: int, damped: float) -> Path:
    """The tests' tiny model of Z-Image's form, with a larger transformer: its uploads are what a step takes."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import tiny

    tiny.write_family(folder, "z-image")
    small, tensors = tiny.part("z_transformer"), {}
    of_tiny = {64: WIDTH, 170: INNER, 256: 4 * WIDTH, 16: sum(HEAD)}
    blocks = [name for name in small if name.startswith("layers.0.")]
    names = [name for name in small if not name.startswith("layers.")]
    names += [name.replace("layers.0", f"layers.{number}") for number in range(layers) for name in blocks]
    for name in names:
        inner = name.replace(f"layers.{name.split('.')[1]}", "layers.0") if name.startswith("layers.") else name
        shape = list(small[inner].shape)
        ends = name.startswith(("all_x_embedder", "all_final_layer"))
        if name.startswith("t_embedder"):
            pass  # Z-Image's embedding of the time is narrow
        elif "adaLN_modulation" in name:
            shape = [WIDTH if ends else 4 * WIDTH, *shape[1:]]
        elif ends:
            shape[0 if "embedder" in name else -1] = WIDTH if len(shape) == 2 or "embedder" in name else shape[0]
        else:
            shape = [of_tiny.get(side, side) for side in shape]
        tensors[name] = tiny.values(name, tuple(shape))
    for name in ("t_embedder.mlp.2.weight", "t_embedder.mlp.2.bias"):
        tensors[name] = tensors[name] * np.float32(damped)
    tiny.write_safetensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", tensors)
    (folder / "transformer" / "config.json").write_text(json.dumps({"axes_dims": HEAD, "rope_theta": 256.0}))
    return folder


def measure_transformer(given: argparse.Namespace) -> None:
    """Print the table of a streamed transformer."""
    size = given.size or 64
    with tempfile.TemporaryDirectory() as folder:
        path = write_transformer(Path(folder), given.layers, given.damped)
        weights = (path / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
        print(f"{weights / 2**20:.0f} MiB of weights, half of them as budget, {size} pixels, {given.steps} steps")
        print("| cache | uploads, share | sampling, share of the time | latents, signal to difference |\n|---|---|---|---|")
        budget = 0.5 * weights / 2**30
        where = {"device": "simulated:vram=8,link=0.2", "max_vram": budget}
        with sdcpp_py.Pipeline(path, **where) as plain, sdcpp_py.Pipeline(path, **where) as cached:
            usual = {"steps": given.steps, "width": size, "height": size, "cfg_scale": 1.0}
            for pipe in (plain, cached):  # plans by measured times
                pipe.generate("x", seed=9, **{**usual, "steps": 4})
            for row in TRANSFORMER_ROWS:
                shares, times, ratios = [], [], []
                for seed in range(2):  # one after the other, so that both find the same machine
                    wanted, made = plain.generate("x", seed=seed, **usual), cached.generate("x", seed=seed, **usual, **row)
                    uploads = [one.reports[plain.denoiser].uploaded_bytes for one in (made, wanted)]
                    shares.append(uploads[0] / uploads[1])
                    times.append(made.timings["sample"] / wanted.timings["sample"])
                    away = np.mean((made.latents[0] - wanted.latents[0]) ** 2)
                    ratios.append(10 * np.log10(np.mean(wanted.latents[0] ** 2) / max(away, 1e-12)))
                name = ", ".join(f"`{key}={value}`" for key, value in row.items())
                print(
                    f"| {name} | {np.mean(shares):.0%} | {statistics.median(times):.0%} | {np.mean(ratios):.1f} dB |", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int)
    parser.add_argument("--transformer", action="store_true")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--damped", type=float, default=0.02)
    given = parser.parse_args()
    if given.transformer:
        measure_transformer(given)
        return
    with sdcpp_py.Pipeline(given.model) as pipe:
        wanted: dict[tuple[str, int], np.ndarray] = {}
        print("| cache | evaluations | sampling, share of the time | PSNR, median and worst |\n|---|---|---|---|")
        usual = 0.0
        for row in ROWS + tuple({"steps": round(given.steps * share)} for share in (0.7, 0.5)):
            seconds, likeness, runs, whole = [], [], 0, 0
            for prompt in PROMPTS:
                for seed in range(4):
                    options = {"steps": given.steps, "sampler": "euler", **row}
                    made = pipe.generate(prompt, seed=seed, width=given.size, height=given.size, **options)
                    pixels = np.asarray(made.image, float)
                    wanted.setdefault((prompt, seed), pixels)
                    error = np.mean((pixels - wanted[prompt, seed]) ** 2)
                    likeness.append(10 * np.log10(255**2 / max(error, 1e-9)))
                    seconds.append(made.timings["sample"])
                    runs += made.reports[pipe.denoiser].runs
            usual = usual or statistics.median(seconds)
            name = ", ".join(f"`{key}={value}`" for key, value in row.items()) or "none"
            whole = len(PROMPTS) * 4 * given.steps
            psnr = "" if not row else f"{statistics.median(likeness):.1f}, {min(likeness):.1f} dB"
            print(f"| {name} | {runs / whole:.0%} | {statistics.median(seconds) / usual:.0%} | {psnr} |", flush=True)


if __name__ == "__main__":
    main()
