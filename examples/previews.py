"""Keep a picture after every third step: python examples/previews.py"""

import sdcpp_py


def keep(step: sdcpp_py.Step) -> None:
    """Write what the run would give by now."""
    step.preview.save(f"preview_{step.step:02}.png")


with sdcpp_py.Pipeline() as pipeline:
    prompt = "a large purple cross on a white background"
    pipeline.generate(prompt, seed=8, preview="vae", preview_interval=3, preview_callback=keep).save("final.png")
