"""Prompts that change from step to step, and several at once: python examples/changing_prompt.py"""

import sdcpp_py

PROMPTS = {
    "edited": "a large [red circle:blue square:0.3] on a white background",
    "by_turns": "a large [red circle|yellow star] on a white background",
    "both": "a large red circle on a white background AND a small blue square on a white background :0.7",
}

with sdcpp_py.Pipeline() as pipeline:
    for name, prompt in PROMPTS.items():
        pipeline.generate(prompt, seed=2).save(f"{name}.png")
