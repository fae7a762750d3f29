"""`sdcpp plan`: which layers stay on a device and which are streamed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sdcpp_py import _images, families, options
from sdcpp_py.cli import flags
from sdcpp_py.cli.sizes import size_text
from sdcpp_py.errors import InvalidArgumentError, OverBudgetError
from sdcpp_py.options import GENERATE, MODEL
from sdcpp_py.pipeline import Pipeline
from sdcpp_py.plan import picture, planner
from sdcpp_py.plan.planner import Plan

_GIB = 2**30
_CURVE_POINTS = 24
_KNEE = 1.05  # times the fastest step

Planner = Callable[[str, float], Plan]  # takes a policy and a budget in GiB


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's options."""
    plan = commands.add_parser("plan", help="show which layers stay on the device and which are streamed; nothing is loaded")
    plan.add_argument("model", metavar="MODEL", nargs="?", help="left out: the small model that comes with the package")
    flags.add_parts(plan)
    plan.add_argument("--family", metavar="NAME", help="in place of a file: " + ", ".join(families.names()))
    for name in ("width", "height", "batch_count", "cfg_scale"):
        flags.add_option(plan, GENERATE[name])
    flags.add_option(plan, MODEL["wtype"], "--wtype")
    plan.add_argument(
        "--network", metavar="NAME", help="one of the model's networks, such as vae.decoder (left out: the diffusion model)"
    )
    plan.add_argument("--max-vram", metavar="GIB", help="the budget (left out: the device's memory)")
    flags.add_option(plan, MODEL["plan_policy"], "--policy")
    flags.add_option(plan, MODEL["gpu_layers"])
    plan.add_argument("--device-profile", default="rtx3060", metavar="NAME", help=", ".join(families.PROFILES))
    plan.add_argument("--vram", type=float, metavar="GIB", help="memory of a device that is not in this machine")
    plan.add_argument("--link-gbs", type=float, metavar="GB/S", help="that device's upload speed")
    plan.add_argument("--tflops", type=float, metavar="X", help="that device's compute speed, reached in real layers")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument("--curve", action="store_true", help="seconds per step for budgets from the smallest to the whole model")
    plan.add_argument("--plot", metavar="FILE", help="draw the plan, or the curve, into this file")
    plan.set_defaults(run=run)


def _profile(arguments: argparse.Namespace) -> families.Profile:
    known = families.PROFILES[options.choice("device_profile", arguments.device_profile, tuple(families.PROFILES))]
    given = (arguments.vram, arguments.link_gbs, arguments.tflops)
    values = zip(("vram", "link_gbs", "tflops"), given, (known.vram_gib, known.link_gb_per_s, known.tflops))
    return families.Profile(*(value if mine is None else options.real(name, mine, 1e-6, 1e9) for name, mine, value in values))


def _family_planner(arguments: argparse.Namespace, profile: families.Profile) -> Planner:
    if arguments.model is not None or any(flags.parts(arguments).values()):
        raise InvalidArgumentError("give a model file or --family, not both")
    width, height = arguments.width or 1024, arguments.height or 1024
    stages = families.stages(arguments.family, wtype=arguments.wtype or "bf16", width=width, height=height, tflops=profile.tflops)
    cfg_scale = arguments.cfg_scale
    guided = families.is_guided(arguments.family) if cfg_scale is None else cfg_scale != 1.0
    batch = GENERATE["batch_count"].check(arguments.batch_count)

    def make(policy: str, budget: float) -> Plan:
        return planner.plan(
            stages,
            budget_bytes=int(budget * _GIB),
            policy=policy,
            link_bytes_per_s=profile.link_gb_per_s * 1e9,
            microbatches=batch * (2 if guided else 1),
            gpu_layers=arguments.gpu_layers,
        )

    return make


def _file_planner(arguments: argparse.Namespace, profile: families.Profile) -> Planner:
    def make(policy: str, budget: float) -> Plan:
        with Pipeline(
            arguments.model,
            **flags.parts(arguments),
            wtype=arguments.wtype,
            max_vram=budget,
            plan_policy=policy,
            gpu_layers=arguments.gpu_layers,
            device="CPU",
            link_speed=(profile.tflops * 1e12, profile.link_gb_per_s * 1e9),
        ) as pipeline:
            return pipeline.plan(
                network=arguments.network,
                cfg_scale=arguments.cfg_scale,
                width=arguments.width,
                height=arguments.height,
                batch_count=arguments.batch_count,
            )

    return make


def curve(make: Planner, policy: str = "auto") -> list[tuple[float, Plan]]:
    """Plans for budgets (GiB) from the smallest possible one to one that holds everything."""
    whole = make(policy, 1e5).peak_bytes / _GIB
    try:
        make(policy, 1e-6)
        least = whole / 100
    except OverBudgetError as problem:
        assert problem.least_bytes is not None
        least = (problem.least_bytes + 1) / _GIB
    found = []
    for i in range(_CURVE_POINTS):
        budget = least + (whole * 1.01 - least) * i / (_CURVE_POINTS - 1)
        try:
            found.append((budget, make(policy, budget)))
        except OverBudgetError:
            continue  # the least was for another policy's plan
    return found


def knee(found: list[tuple[float, Plan]]) -> float:
    """The smallest budget that is nearly as fast as any."""
    fastest = min(plan.predicted_step_seconds for _, plan in found)
    return next(budget for budget, plan in found if plan.predicted_step_seconds <= fastest * _KNEE)


def _print_curve(found: list[tuple[float, Plan]]) -> None:
    slowest = max(plan.predicted_step_seconds for _, plan in found)
    print(f"{'max_vram':>10} {'resident':>11} {'streamed':>11} {'step':>10} {'/limit':>7}")
    for budget, plan in found:
        ratio = plan.predicted_step_seconds / plan.limit_step_seconds if plan.limit_step_seconds else 1.0
        bar = "#" * round(40 * plan.predicted_step_seconds / slowest) if slowest else ""
        sizes = f"{size_text(plan.resident_bytes):>11} {size_text(plan.streamed_bytes_per_step):>11}"
        print(f"{budget:6.4g} GiB {sizes} {plan.predicted_step_seconds:8.4g} s {ratio:6.2f}x {bar}")
    print(f"knee: from {knee(found):.4g} GiB on a step takes at most {_KNEE:.2f} of the fastest")


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    profile = _profile(arguments)
    wanted = MODEL["plan_policy"].check(arguments.plan_policy)
    make = (_file_planner if arguments.family is None else _family_planner)(arguments, profile)
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        _images.check_output(plot)
    budget = profile.vram_gib
    if arguments.max_vram is not None:
        try:
            budget = MODEL["max_vram"].check(arguments.max_vram)
        except InvalidArgumentError:
            raise InvalidArgumentError.of("max_vram", f"is {arguments.max_vram!r}; a plan needs GiB, such as 12") from None
        budget = budget if budget > 0 else max(0.0, profile.vram_gib + budget) if budget < 0 else 0.0
    if arguments.curve:
        points = curve(make, wanted)
        if arguments.json:
            print(json.dumps([{"max_vram": at, **asdict(plan)} for at, plan in points], indent=1))
        else:
            _print_curve(points)
        if plot is not None:
            picture.save_curve({wanted: [(at, plan.predicted_step_seconds) for at, plan in points]}, plot)
        return 0
    found = {}
    for policy in dict.fromkeys((wanted, *MODEL["plan_policy"].choices[1:])):
        try:
            found[policy] = make(policy, budget)
        except OverBudgetError:
            if policy == wanted:
                raise
    if arguments.json:
        print(json.dumps({policy: asdict(plan) for policy, plan in found.items()}, indent=1))
    else:
        print(found[wanted])
        print(f"\n{'policy':12} {'segments':>8} {'resident':>12} {'streamed a step':>16} {'peak':>12} {'step':>10}")
        for policy, plan in found.items():
            sizes = (plan.resident_bytes, plan.streamed_bytes_per_step, plan.peak_bytes)
            row = f"{size_text(sizes[0]):>12} {size_text(sizes[1]):>16} {size_text(sizes[2]):>12}"
            print(f"{policy:12} {len(plan.segments):8} {row} {plan.predicted_step_seconds:8.3f} s")
    if plot is not None:
        path = flags.parts(arguments).get("diffusion_model") or arguments.model
        what = arguments.family or (Path(path).name if path else "the embedded model")
        title = f"{what}, max_vram {budget:g} GiB, link {profile.link_gb_per_s:g} GB/s, policy {found[wanted].policy}"
        picture.save(found[wanted], plot, title=title)
    return 0
