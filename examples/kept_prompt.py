"""Encode a prompt once, keep it in a file, and use it again: python examples/kept_prompt.py"""

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    pipeline.encode_prompt("a large green triangle on a black background").save("prompt.safetensors")
    kept = sdcpp_py.Conditioning.load("prompt.safetensors")
    result = pipeline.generate(conditioning=kept, negative_conditioning=pipeline.encode_prompt("", negative=True), seed=1)
    result.save("kept.png")
    print(kept)
