"""Repaint one of two shapes; the rest keeps every bit: python examples/inpainting.py"""

import numpy as np
from PIL import Image, ImageDraw

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    before = pipeline.generate("a red circle left of a blue square on a white background", seed=4).image
    mask = Image.new("L", before.size)
    ImageDraw.Draw(mask).rectangle((0, 0, before.width // 2 - 8, before.height), fill=255)  # white is repainted
    prompt = "a green circle left of a blue square on a white background"
    after = pipeline.generate(prompt, init_image=before, mask_image=mask, strength=1.0, seed=5).image
    after.save("repainted.png")
    kept = np.asarray(after)[:, before.width // 2 + 16 :]
    print("kept pixels are the same:", np.array_equal(kept, np.asarray(before)[:, before.width // 2 + 16 :]))
