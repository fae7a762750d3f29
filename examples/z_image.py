"""Z-Image from three files on a small GPU: python examples/z_image.py z_image_turbo.safetensors Qwen3-4B.gguf ae.safetensors"""

import sys

import sdcpp_py

transformer, language_model, vae = sys.argv[1:4]
with sdcpp_py.Pipeline(diffusion_model=transformer, llm=language_model, vae=vae, max_vram=6) as pipeline:
    result = pipeline.generate("a lighthouse at dusk, its beam over a calm sea", width=1024, height=1024, seed=1)
    sdcpp_py.save(result.images[0], "lighthouse.png")
    print(result.reports["z_image"].plan.summary())
