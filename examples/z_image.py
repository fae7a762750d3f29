"""Z-Image from three files on a small GPU."""

import argparse

import sdcpp_py

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("transformer", help="such as z_image_turbo.safetensors")
parser.add_argument("language_model", help="such as Qwen3-4B.gguf")
parser.add_argument("vae", help="such as ae.safetensors")
files = parser.parse_args()

with sdcpp_py.Pipeline(diffusion_model=files.transformer, llm=files.language_model, vae=files.vae, max_vram=6) as pipeline:
    result = pipeline.generate("a lighthouse at dusk, its beam over a calm sea", width=1024, height=1024, seed=1)
    result.save("lighthouse.png")
    print(result.reports["z_image"].plan.summary())
