"""A second backend: ggml's Vulkan, here on Mesa's software driver. Run by .ci/vulkan.

Pipelines are kept open to the end: Mesa 22.3's llvmpipe goes on using buffers that have been freed.
"""

import numpy as np
import pytest

import sdcpp_py

DEVICE = "Vulkan0"
CONTEXT = 96  # of the embedded model
kept = []


@pytest.fixture(scope="module", autouse=True)
def there_is_a_device():
    names = [device.name for device in sdcpp_py.devices()]
    assert DEVICE in names, f"no {DEVICE}; there are {names}"


def evaluate(batch=1, **memory):
    pipeline = sdcpp_py.Pipeline(device=DEVICE, link_speed=(2e10, 2e9), **memory)
    kept.append(pipeline)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, 4, 8, 8), np.float32)
    context = rng.standard_normal((batch, 77, CONTEXT), np.float32)
    outputs = [pipeline.evaluate("unet", x=x, timesteps=np.full(batch, 500.0), context=context) for _ in range(3)]
    assert all((output == outputs[0]).all() for output in outputs)
    return outputs[0], (x, context)


def test_it_computes_what_the_processor_computes():
    ours, (x, context) = evaluate(2)
    with sdcpp_py.Pipeline(device="CPU") as pipeline:
        expected = pipeline.evaluate("unet", x=x, timesteps=np.full(2, 500.0), context=context)
    assert np.abs(ours - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("policy", ["pipelined", "capped", "full"])
@pytest.mark.parametrize("budget", [0.0055, 0.007, 0.009, 0.0115])
def test_streamed_and_resident_are_bit_identical(policy, budget):
    resident, _ = evaluate()
    streamed, _ = evaluate(max_vram=budget, plan_policy=policy)
    assert (resident == streamed).all()


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_is_streamed_once_for_all(batch):
    # kernels are chosen by a product's sides, so what runs one by one is compared with what runs one by one
    alone = [evaluate(batch, max_vram=budget, plan_policy="full")[0] for budget in (0.0055, 0.0115)]
    assert (alone[0] == alone[1]).all()
    together, _ = evaluate(batch, max_vram=0.0115, plan_policy="pipelined")
    assert np.abs(together - alone[0]).max() < 0.02 * np.abs(together).max()
