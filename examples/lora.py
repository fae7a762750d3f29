"""Shapes as outlines, by the LoRA that lies beside this script: python examples/lora.py"""

from pathlib import Path

import sdcpp_py

LORA = Path(__file__).with_name("outlines.safetensors")  # made by training/train_lora.py

with sdcpp_py.Pipeline() as pipeline:
    for weight in (0.0, 0.5, 1.0):
        result = pipeline.generate("a large red circle on a white background", seed=4, loras=[(LORA, weight)])
        result.save(f"circle_{weight:g}.png")

with sdcpp_py.Pipeline(lora_model_dir=LORA.parent) as pipeline:  # the same by a tag in the prompt
    pipeline.generate("a large blue star on a white background <lora:outlines:1>", seed=4).save("star.png")
