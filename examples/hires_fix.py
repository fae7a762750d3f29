"""A second pass at a larger size: python examples/hires_fix.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    prompt = "a red circle left of a blue square on a white background"
    result = pipeline.generate(prompt, hires=True, hires_scale=1.5, hires_denoising_strength=0.5, seed=1)
    result.save("larger.png")
    print(result.image.size)
