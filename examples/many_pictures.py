"""A list of prompts, written as they are done: python examples/many_pictures.py"""

from PIL import Image

import sdcpp_py

PROMPTS = [f"a large {colour} {shape} on a white background" for colour in ("red", "blue") for shape in ("circle", "star")]


def keep(number: int, picture: Image.Image) -> None:
    """Write a picture that is done."""
    sdcpp_py.save(picture, f"picture_{number}.png")
    print(PROMPTS[number])


with sdcpp_py.Pipeline() as pipeline:
    pipeline.generate(PROMPTS, seed=[11, 12, 13, 14], picture_callback=keep)
