"""The smallest budgets that do."""

import pytest

import sdcpp_py
from sdcpp_py import errors


def least_gib(model, policy, networks, *, side):
    """The smallest max_vram for pictures of `side` x `side` pixels, as the errors of the networks say it."""
    needs = []
    with sdcpp_py.Pipeline(model, max_vram=1e-5, plan_policy=policy, link_speed=(2e10, 2e9)) as pipeline:
        for network in networks:
            with pytest.raises(errors.OverBudgetError) as caught:
                pipeline.plan(width=side, height=side, network=network)
            needs.append(caught.value.least_bytes)
    return max(needs) / 2**30
