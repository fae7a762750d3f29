"""A learned word in a prompt: python examples/textual_inversion.py"""

import numpy as np

import sdcpp_py

with sdcpp_py.Pipeline() as pipeline:
    width = pipeline.prompt_states("x").shape[-1]
vector = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32) * 0.1  # a trainer's file in real life
header = f'{{"emb_params":{{"dtype":"F32","shape":[2,{width}],"data_offsets":[0,{vector.nbytes}]}}}}'.encode()
with open("mystyle.safetensors", "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header + vector.tobytes())

with sdcpp_py.Pipeline(embeddings=["mystyle.safetensors"]) as pipeline:
    pipeline.generate("a large red circle, (mystyle:0.8), on a white background", seed=1).save("mystyle.png")
