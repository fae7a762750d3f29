"""The smallest budgets that do."""

import pytest

import sdcpp_py
from sdcpp_py import errors

SIMULATED = "simulated:vram=1,link=2"


def least_gib(model, policy, networks, *, device=SIMULATED):
    """The smallest max_vram for `networks`, by name with the side of the picture, as their errors say it.

    On the CPU it is more: what the threads work in counts there.
    """
    needs = []
    with sdcpp_py.Pipeline(model, device=device, max_vram=1e-5, plan_policy=policy, link_speed=(2e10, 2e9)) as pipeline:
        for network, side in networks.items():
            with pytest.raises(errors.OverBudgetError) as caught:
                pipeline.plan(width=side, height=side, network=network)
            needs.append(caught.value.least_bytes)
    return max(needs) / 2**30
