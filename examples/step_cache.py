"""Fewer evaluations by a step cache: python examples/step_cache.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    for mode in ("none", "easycache", "taylorseer"):
        result = pipeline.generate(
            "a large yellow star on a black background", steps=30, seed=9, sampler="euler", cache_mode=mode
        )
        result.save(f"cache_{mode}.png")
        print(mode, result.reports[pipeline.denoiser].runs, f"{result.timings['sample']:.2f} s")
