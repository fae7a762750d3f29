"""Watch the estimate get clear, step by step, and stop early: python examples/watch_steps.py"""

import sdcpp_py


class Enough(Exception):
    """Raised by the callback; it comes out of `generate`."""


def watch(step: sdcpp_py.Step) -> None:
    """Print how much the estimate spreads, and stop after ten steps."""
    print(f"step {step.step} of {step.steps}: {step.seconds:.2f} s, spread {step.latent.std():.3f}")
    if step.step == 10:
        raise Enough


with sdcpp_py.Pipeline() as pipeline:
    try:
        pipeline.generate("a green cross at the left on a white background", seed=1, callback=watch)
    except Enough:
        print("that is enough")
