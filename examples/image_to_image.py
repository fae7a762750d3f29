"""From a picture to another one, by strength: python examples/image_to_image.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    first = pipeline.generate("a large red circle on a white background", seed=3)
    first.save("before.png")
    for strength in (0.3, 0.6, 0.9):
        result = pipeline.generate(
            "a large blue square on a white background", init_image="before.png", strength=strength, seed=3
        )
        result.save(f"after_{strength}.png")
