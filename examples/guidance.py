"""Ways to guide, side by side: python examples/guidance.py"""

import sdcpp_py

WAYS = {
    "plain": {},
    "rescaled": {"guidance_rescale": 0.7},
    "projected": {"apg_eta": 0.0, "apg_momentum": -0.5, "apg_norm_threshold": 15.0},
    "thresholded": {"mimic_scale": 5.0},
    "late": {"guidance_start": 0.2},
}

with sdcpp_py.Pipeline() as pipeline:
    for name, options in WAYS.items():
        result = pipeline.generate("a small orange ring on a black background", cfg_scale=9.0, seed=6, **options)
        result.save(f"guidance_{name}.png")
