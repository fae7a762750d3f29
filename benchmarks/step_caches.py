"""Step caches: evaluations saved, time and likeness. python benchmarks/step_caches.py [MODEL] [--steps N] [--size PIXELS]."""

import argparse
import statistics

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int)
    given = parser.parse_args()
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
