"""Make a picture again from what its file says: python examples/picture_parameters.py"""

import numpy as np

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    first = pipeline.generate("a small cyan ring at the right on a black background")
    first.save("picture.png")
    found = sdcpp_py.metadata.read("picture.png")
    print(found.prompt, dict(found.options))
    again = pipeline.generate(**found.keywords)
    print("the same:", np.array_equal(np.asarray(first.image), np.asarray(again.image)))
