"""A picture from the embedded model: python examples/text_to_image.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    result = pipeline.generate("a small pink star above a large cyan ring on a black background", seed=7)
    result.save("star.png")
    print(result.timings)
