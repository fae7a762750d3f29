"""The plans of all networks of a run: whether a budget is enough for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sdcpp_py import _engine, _hires, options
from sdcpp_py._prompts import Prompts
from sdcpp_py.errors import OverBudgetError
from sdcpp_py.plan import planner

DECODING = {name: option for name, option in options.GENERATE.items() if option.group == "decoding"}
SIZE = ("width", "height", "batch_count", "cfg_scale")


def least_bytes(problem: OverBudgetError) -> int:
    """The smallest budget that would be enough."""
    return problem.least_bytes


class RunPlans:
    """Plans of a model's networks for a run."""

    def __init__(self, model: Callable[[], _engine.Model], networks: Sequence[Mapping[str, Any]], prompts: Prompts) -> None:
        """``model`` gives the open model, ``networks`` are the rows of its report."""
        self._model, self._networks, self._prompts = model, networks, prompts

    def require_later(self, used: Mapping[str, Any], later: _hires.SecondPass | None, sees: bool = False) -> None:
        """Raise OverBudgetError if a budget is not enough for what runs after the first steps: before them.

        ``sees``: the model's vision encoder looks at a picture.
        """
        roles = {"tiny_decoder" if used.get("use_taesd") else "decoder", *(["vision_encoder"] if sees else [])}
        if later:
            roles |= {"denoiser"} if later.upscaler.startswith("latent") else {"denoiser", "encoder"}
        for network in self._networks:
            if network["role"] in roles:
                self._model().plan(network["name"], _sizes(used))

    def enough_for_all(
        self, problem: OverBudgetError, used: Mapping[str, Any], texts: Sequence[str], has_picture: bool
    ) -> OverBudgetError:
        """``problem``, with the budget that is enough for every network of the run, not only for the one that stopped it."""
        found = self.of_run({**used, "batch_count": 1}, texts, has_picture).values()
        largest = max((one for one in found if isinstance(one, OverBudgetError)), key=least_bytes, default=problem)
        return problem.with_enough(max(problem, largest, key=least_bytes))

    def of_run(
        self, used: Mapping[str, Any], texts: Sequence[str], has_picture: bool
    ) -> dict[str, planner.Plan | OverBudgetError]:
        """For each network of a run, in order, its plan or why there is none."""
        roles = {"denoiser", "tiny_decoder" if used.get("use_taesd") else "decoder", *(["encoder"] if has_picture else [])}
        reading = {encoder.name for encoder in self._prompts.encoders}
        chunks = self._prompts.chunks(texts, used.get("steps"))
        found: dict[str, planner.Plan | OverBudgetError] = {}
        for network in self._networks:
            name = network["name"]
            if network["role"] not in roles and name not in reading:
                continue
            try:
                found[name] = planner.of_engine(self._model().plan(name, _sizes(used), chunks))
            except OverBudgetError as problem:
                found[name] = problem
        return found


def _sizes(used: Mapping[str, Any]) -> dict[str, Any]:
    """The options that plans depend on."""
    return {name: used[name] for name in (*SIZE, *DECODING) if name in used}
