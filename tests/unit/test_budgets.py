"""Budgets are kept or refused, never dropped in silence; what an error tells as enough is enough."""

import random

import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import options
from sdcpp_py.errors import InvalidArgumentError, OverBudgetError

SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 1}
FAST = {"threads": 1, "link_speed": (1e10, 1e9)}
GIB = 2**30


def test_a_budget_that_names_the_device_in_use_is_kept_whatever_chose_it():
    with sdcpp_py.Pipeline(max_vram="CPU=0.008", **FAST) as pipeline:
        assert 0 < pipeline.generate("x", **SMALL).memory["peak"] <= 0.008 * GIB
    assert options.max_vram("CUDA0=8,cpu=4,2", "auto") == 4
    assert options.max_vram("CUDA0=8,2", "CPU") == 2
    assert options.max_vram("CUDA0=8,*=3", "CPU") == 3
    assert options.max_vram("simulated=5", "simulated:vram=6,link=12") == options.max_vram("5", "CPU") == 5


@pytest.mark.parametrize("value", ["CUDA0=8", "CPUU=0.5", "Vulkan1=4,CUDA0=8"])
def test_a_budget_that_gives_nothing_to_the_device_in_use_is_refused(value):
    with pytest.raises(InvalidArgumentError, match=r"max_vram has '.*', which gives nothing to CPU"):
        sdcpp_py.Pipeline(max_vram=value)


@pytest.mark.parametrize("value", [1e-10, -1e6, "1e-12", 1e-4])
def test_a_budget_that_leaves_nothing_is_too_small(value):
    with sdcpp_py.Pipeline(max_vram=value, **FAST) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("x", **SMALL)
    assert caught.value.least_bytes > 1e6


def test_what_is_told_as_enough_is_enough_for_all_networks():
    with sdcpp_py.Pipeline(max_vram=0.0005, **FAST) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("x", **SMALL)
    least = caught.value.least_bytes
    with sdcpp_py.Pipeline(max_vram=least / GIB, **FAST) as pipeline:
        assert pipeline.generate("x", **SMALL).memory["peak"] <= least
    with sdcpp_py.Pipeline(max_vram=(least - 10_000) / GIB, **FAST) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("x", **SMALL)
    assert caught.value.least_bytes == least


def test_what_is_told_as_enough_counts_the_process():
    opening = {**FAST, "whole_process": True, "device": "CPU"}
    with sdcpp_py.Pipeline(max_vram=0.02, **opening) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("x", **SMALL)
    with sdcpp_py.Pipeline(max_vram=caught.value.least_bytes / GIB, **opening) as pipeline:
        assert pipeline.generate("x", **SMALL).images


def test_no_budget_above_what_is_enough_fails():
    with sdcpp_py.Pipeline(max_vram=0.0005, **FAST) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("x", **SMALL)
    least = caught.value.least_bytes
    for budget in [3046843, *random.Random(1).sample(range(least, 9_000_000), 20)]:
        if budget < least:
            continue
        with sdcpp_py.Pipeline(max_vram=budget / GIB, **FAST) as pipeline:
            assert pipeline.generate("x", **SMALL).memory["peak"] <= budget, budget


@pytest.mark.parametrize(
    ("prompt", "more"),
    [
        ("a red circle", {"width": 256, "height": 256, "init_image": Image.new("RGB", (256, 256))}),
        ("red circle " * 800, {}),
        ("a red circle", {"width": 256, "height": 256, "vae_tiling": False}),
    ],
)
def test_the_least_that_is_told_counts_the_whole_run(prompt, more):
    little = sdcpp_py.Pipeline(threads=1, max_vram=1e6 / 2**30, link_speed=(1e9, 1e9))
    with little as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate(prompt, steps=1, **more)
    with sdcpp_py.Pipeline(threads=1, max_vram=caught.value.least_bytes / 2**30, link_speed=(1e9, 1e9)) as pipeline:
        assert pipeline.generate(prompt, steps=1, **more).images


def test_a_budget_that_the_decoder_exceeds_is_refused_before_the_steps():
    used = {"width": 256, "height": 256, "batch_count": 1, "cfg_scale": 4.0, "vae_tiling": False}
    with sdcpp_py.Pipeline(max_vram=1e-6, **FAST) as pipeline:
        found = pipeline._plans.of_run(used, ["a star"], False)
    least = {name: problem.least_bytes for name, problem in found.items()}
    others = max(bytes_ for name, bytes_ in least.items() if name != "vae.decoder")
    assert others < least["vae.decoder"]
    steps = []
    with sdcpp_py.Pipeline(max_vram=(others + 10_000) / GIB, **FAST) as pipeline, pytest.raises(OverBudgetError) as caught:
        pipeline.generate("a star", width=256, height=256, cfg_scale=4, steps=2, vae_tiling=False, callback=steps.append)
    assert not steps and caught.value.least_bytes == least["vae.decoder"]
