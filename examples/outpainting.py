"""Let a picture grow to the right: python examples/outpainting.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    small = pipeline.generate("a large red circle on a white background", seed=3).image
    prompt = "a red circle left of a blue square on a white background"
    pipeline.generate(prompt, init_image=small, outpaint=(0, 0, 64, 0), seed=1).save("wider.png")
