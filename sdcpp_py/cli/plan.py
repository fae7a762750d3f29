"""`sdcpp plan`: which layers stay on a device and which are streamed."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sdcpp_py import _images, families, options
from sdcpp_py._model_info import Device, devices
from sdcpp_py.cli import flags
from sdcpp_py.cli.sizes import seconds_text, size_text
from sdcpp_py.errors import InvalidArgumentError, MissingPartError, OverBudgetError
from sdcpp_py.options import GENERATE, MODEL
from sdcpp_py.pipeline import Pipeline
from sdcpp_py.plan import _speeds, picture, planner
from sdcpp_py.plan.planner import Plan

_EXAMPLES = """examples:
  sdcpp plan sd_xl_base_1.0.safetensors --max-vram 6
  sdcpp plan sd_xl_base_1.0.safetensors --max-vram 6 --device-profile rtx4060-laptop -v
  sdcpp plan --family wan-14b --max-vram 11 --link-gbs 6.5 --device-profile rtx4090 --plot plan.png
  sdcpp plan sd_xl_base_1.0.safetensors --curve
"""
_GIB = 2**30
_CURVE_POINTS = 24
_KNEE = 1.05  # times the fastest step
_MORE_GIB = 2.0  # the budget beyond the one asked for that the summary tells about
_USUAL_PROFILE = "rtx3060"  # for devices that are given by single numbers
_NO_LIMIT_GIB = 1e5

_FAMILY_OPTIONS = ("width", "height", "batch_count", "cfg_scale", "wtype", "max_vram", "plan_policy", "gpu_layers", "device")
_MODEL_OPTIONS = (
    *("wtype", "tensor_type_rules", "max_vram", "stream_layers", "offload_to_cpu", "threads", "device", "gpu_layers"),
    *("blas", "matmul_precision"),
)
_THIS_MACHINES = ("threads", "blas", "matmul_precision")  # computing here; a device's profile has its speeds
_GENERATE_OPTIONS = ("width", "height", "batch_count", "cfg_scale", "vae_tiling", "vae_tile_size")

# Takes a policy and a budget in GiB (None: the device's own). The first plan is the one that is shown.
Planner = Callable[[str, float | None], dict[str, Plan]]


@dataclass(frozen=True)
class Target:
    """The device that is planned for."""

    name: str  #: in this machine; "" if it is not there
    words: str  #: for people
    profile: families.Profile | None  #: its figures; None: those of the device in this machine


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's options."""
    plan = commands.add_parser(
        "plan",
        help="show whether a model fits, how fast it will be, and which layers are streamed; nothing is loaded",
        description="Show whether a model fits, how long a step takes and what is streamed. The plan is for this machine's "
        "device,\nwith its measured speeds, and is the one that `sdcpp generate` follows. Nothing is loaded.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_model(plan, "left out: the small model that comes with the package")
    flags.add_parts(plan)
    plan.add_argument("--family", metavar="NAME", help="in place of a file: " + ", ".join(families.names()))
    plan.add_argument("--network", metavar="NAME", help="one of the model's networks alone, such as vae.decoder")
    for name in _GENERATE_OPTIONS:
        flags.add_option(plan, GENERATE[name])
    for name in _MODEL_OPTIONS:
        flags.add_option(plan, MODEL[name], *(["--wtype"] if name == "wtype" else []))
    flags.add_option(plan, MODEL["plan_policy"], "--policy")
    other = plan.add_argument_group("a device that is not in this machine")
    other.add_argument("--device-profile", metavar="NAME", help=", ".join(families.PROFILES))
    other.add_argument("--vram", type=float, metavar="GIB", help="its memory")
    other.add_argument("--link-gbs", type=float, metavar="GB/S", help="its upload speed")
    other.add_argument("--tflops", type=float, metavar="X", help="its compute speed, reached in real layers")
    plan.add_argument("-v", "--verbose", action="store_true", help="show every segment, and other policies")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument("--curve", action="store_true", help="seconds per step for budgets from the smallest to the whole model")
    plan.add_argument("--plot", metavar="FILE", help="draw the plan, or the curve, into this file")
    plan.set_defaults(run=run)


def _target(arguments: argparse.Namespace) -> Target:
    figures = {"vram_gib": arguments.vram, "link_gb_per_s": arguments.link_gbs, "tflops": arguments.tflops}
    given = {name: value for name, value in figures.items() if value is not None}
    if arguments.device_profile is None and not given:
        here = _device_here(arguments.device)
        name = here.name if here is not None and arguments.device == "auto" else arguments.device
        return Target(name, f"{name} ({here.description})" if here is not None else name, None)
    if arguments.device != MODEL["device"].keyword_default:
        raise InvalidArgumentError("give --device, or figures of a device that is not in this machine, not both")
    name = arguments.device_profile or _USUAL_PROFILE
    known = families.PROFILES[options.choice("device_profile", name, tuple(families.PROFILES))]
    flag = {"vram_gib": "vram", "link_gb_per_s": "link_gbs", "tflops": "tflops"}
    own = {key: options.real(flag[key], value, 1e-6, 1e9) for key, value in given.items()}
    profile = families.Profile(**{**asdict(known), **own})
    words = f"{name} ({profile.vram_gib:g} GiB, {profile.link_gb_per_s:g} GB/s, {profile.tflops:g} TFLOP/s)"
    return Target("", words, profile)


def _device_here(name: str) -> Device | None:
    """The device of that name, or for "auto" the one that `Pipeline` takes; None for simulated and unknown ones."""
    found = devices()
    if name == "auto":
        return next((one for one in found if not one.is_cpu), found[0])
    return next((one for one in found if one.name.lower() == name.lower()), None)


def _family_planner(arguments: argparse.Namespace, target: Target) -> tuple[Planner, str]:
    if flags.model(arguments) is not None or any(flags.parts(arguments).values()):
        raise InvalidArgumentError("give a model file or --family, not both")
    given = [name for name in (*_GENERATE_OPTIONS, *_MODEL_OPTIONS) if name not in _FAMILY_OPTIONS]
    unfit = [flags.spell(name, "") for name in given if getattr(arguments, name) != {**GENERATE, **MODEL}[name].keyword_default]
    if arguments.network is not None:
        unfit.insert(0, "--network")
    if unfit:
        raise InvalidArgumentError(f"{unfit[0]} needs a model file; --family knows the diffusion model alone")
    profile = target.profile or _measured(target.name)
    own = families.size(arguments.family)
    width = own[0] if arguments.width is None else arguments.width
    height = own[1] if arguments.height is None else arguments.height
    stages = families.stages(arguments.family, wtype=arguments.wtype or "bf16", width=width, height=height, tflops=profile.tflops)
    cfg_scale = arguments.cfg_scale
    guided = families.is_guided(arguments.family) if cfg_scale is None else cfg_scale != 1.0
    batch = GENERATE["batch_count"].check(arguments.batch_count)

    def make(policy: str, budget: float | None) -> dict[str, Plan]:
        plan = planner.plan(
            stages,
            budget_bytes=int((profile.vram_gib if budget is None else budget) * _GIB),
            policy=policy,
            link_bytes_per_s=profile.link_gb_per_s * 1e9,
            microbatches=batch * (2 if guided else 1),
            gpu_layers=arguments.gpu_layers,
        )
        return {arguments.family: plan}

    return make, f"{arguments.family} at {width}x{height}"


def _measured(name: str) -> families.Profile:
    """The figures of a device in this machine."""
    flops, link = _speeds.device_speed(name, 0)
    here = _device_here(name)
    return families.Profile((here.free_bytes if here else 0) / _GIB, link / 1e9, flops / 1e12)


def _file_planner(arguments: argparse.Namespace, target: Target) -> tuple[Planner, str]:
    profile, model = target.profile, flags.model(arguments)
    opening = {name: getattr(arguments, name) for name in (*_MODEL_OPTIONS, "plan_policy")} | flags.parts(arguments)
    making = {name: getattr(arguments, name) for name in _GENERATE_OPTIONS}
    if profile is not None:
        for name in _THIS_MACHINES:
            if getattr(arguments, name) != MODEL[name].keyword_default:
                flag = flags.spell(name, "")
                raise InvalidArgumentError(f"{flag} is about this machine; leave it out for a device that is not in it")
        opening |= {"device": "CPU", "link_speed": (profile.tflops * 1e12, profile.link_gb_per_s * 1e9)}
    else:
        opening |= {"device": target.name, "whole_process": True}
        if not target.name.startswith("simulated"):
            opening["link_speed"] = _speeds.device_speed(target.name, arguments.threads or 0)
    with Pipeline(model, **{**opening, "max_vram": None}) as pipeline:
        making["width"] = arguments.width or pipeline.default("width")
        making["height"] = arguments.height or pipeline.default("height")
        shown = arguments.network or pipeline.denoiser
    if not shown:
        raise InvalidArgumentError("the files hold no diffusion model; name what is to be planned with --network")
    path = opening["diffusion_model"] or model
    what = f"{shown} of {Path(path).name if path else 'the embedded model'} at {making['width']}x{making['height']}"

    told: list[str] = []

    def make(policy: str, budget: float | None) -> dict[str, Plan]:
        if profile is not None:
            budget = profile.vram_gib if budget is None else budget
        own = {**opening, "max_vram": arguments.max_vram if budget is None else budget, "plan_policy": policy}
        with Pipeline(model, **own) as pipeline:
            if arguments.network is None:
                with contextlib.suppress(MissingPartError):  # what is there can be planned
                    plans = pipeline.plans(**making, use_taesd=arguments.taesd is not None)
                    if making["vae_tile_size"] is not None and not making["vae_tiling"] and not told:
                        other = pipeline.plans(**{**making, "vae_tile_size": None}, use_taesd=arguments.taesd is not None)
                        if plans == other:
                            told.append("--vae-tile-size changes nothing here; --vae-tiling decodes in tiles at any size")
                            print(f"sdcpp: {told[-1]}", file=sys.stderr)
                    return {shown: plans.pop(shown), **plans}
            alone = {name: making[name] for name in ("width", "height", "batch_count", "cfg_scale")}
            return {shown: pipeline.plan(network=shown, **alone)}

    return make, what


def _budget(arguments: argparse.Namespace, target: Target) -> float | None:
    """The budget in GiB that the user asks for; None: the device's own, as `sdcpp generate` would have it."""
    if target.profile is not None and isinstance(arguments.max_vram, str) and "=" in arguments.max_vram:
        raise InvalidArgumentError("--max-vram with a device's name is for devices of this machine; give one number of GiB")
    budget = options.max_vram(arguments.max_vram, target.name)
    if budget is None or target.profile is None:
        return budget
    if budget < 0:
        return max(1e-6, target.profile.vram_gib + budget)
    return budget


def _first(plans: dict[str, Plan]) -> Plan:
    return next(iter(plans.values()))


def curve(make: Planner, policy: str = "auto") -> list[tuple[float, Plan]]:
    """Plans for budgets (GiB) from the smallest possible one to one that holds everything."""
    whole = max(plan.peak_bytes for plan in make(policy, _NO_LIMIT_GIB).values()) / _GIB
    try:
        make(policy, 1e-6)
        least = whole / 100
    except OverBudgetError as problem:
        assert problem.least_bytes is not None
        least = (problem.least_bytes + 1) / _GIB
    most = max(whole * 1.01, least * 1.01)
    found = []
    for i in range(_CURVE_POINTS):
        budget = least + (most - least) * i / (_CURVE_POINTS - 1)
        try:
            found.append((budget, _first(make(policy, budget))))
        except OverBudgetError:
            continue  # the least was for another policy's plan
    return found


def knee(found: list[tuple[float, Plan]]) -> float:
    """The smallest budget that is nearly as fast as any."""
    fastest = min(plan.predicted_step_seconds for _, plan in found)
    return next(budget for budget, plan in found if plan.predicted_step_seconds <= fastest * _KNEE)


def _curve_text(found: list[tuple[float, Plan]]) -> str:
    slowest = max(plan.predicted_step_seconds for _, plan in found)
    rows = [f"{'max_vram':>11} {'stays':>11} {'streamed':>11} {'a step':>10}"]
    for budget, plan in found:
        bar = "#" * round(40 * plan.predicted_step_seconds / slowest) if slowest else ""
        sizes = f"{size_text(plan.resident_bytes):>11} {size_text(plan.streamed_bytes_per_step):>11}"
        rows.append(f"{size_text(budget * _GIB):>11} {sizes} {seconds_text(plan.predicted_step_seconds):>10} {bar}")
    rows.append(f"knee: from {size_text(knee(found) * _GIB)} on, a step takes at most {_KNEE:.2f} of the fastest")
    return "\n".join(rows)


def _more(make: Planner, policy: str, plan: Plan, budget: float | None) -> str:
    """What a larger budget would bring."""
    try:
        larger = _first(make(policy, (budget or plan.peak_bytes / _GIB) + _MORE_GIB))
    except OverBudgetError:
        return ""
    streamed = f"{size_text(larger.streamed_bytes_per_step)} streamed" if larger.streamed_bytes_per_step else "nothing streamed"
    return f"with {_MORE_GIB:g} GiB more: {seconds_text(larger.predicted_step_seconds)} a step, {streamed}"


def summary(make: Planner, policy: str, plans: dict[str, Plan], *, what: str, target: Target, budget: float | None) -> str:
    """Some lines for people: whether it fits, what is streamed, how long a step takes, what more memory would bring."""
    plan, others = _first(plans), list(plans.items())[1:]
    lines = [f"{what} on {target.words}"]
    most = max(one.peak_bytes for one in plans.values())
    if target.profile is not None and most > target.profile.vram_gib * _GIB:
        lines.append(f"does not fit: {size_text(most)} are needed at once; leave out what keeps layers from streaming")
        return "\n".join(lines)
    weights = sum(stage.param_bytes for stage in plan.stages)
    if plan.streamed_bytes_per_step == 0:
        lines.append(f"fits: all {size_text(weights)} of weights stay, {size_text(plan.peak_bytes)} are used at most")
        lines.append(f"a step takes about {seconds_text(plan.predicted_step_seconds)}")
        return "\n".join([*lines, *(_told(name, one) for name, one in others)])
    streamed = plan.streamed_bytes_per_step
    lines.append(
        f"streams: of {size_text(weights)} of weights {size_text(plan.resident_bytes)} stay, "
        f"{size_text(streamed)} are uploaded in each step; {size_text(plan.peak_bytes)} are used at most"
    )
    whole = sum(stage.seconds for stage in plan.stages) * plan.together * plan.passes
    slower = f", {plan.predicted_step_seconds / whole:.2f} times as long as if everything stayed" if whole > 0 else ""
    lines.append(f"a step takes about {seconds_text(plan.predicted_step_seconds)}{slower}")
    lines += filter(None, [_more(make, policy, plan, budget)])
    return "\n".join([*lines, *(_told(name, one) for name, one in others)])


def _told(network: str, plan: Plan) -> str:
    """A line about a network that runs before or after the diffusion model."""
    streamed, used = plan.streamed_bytes_per_step, f"{size_text(plan.peak_bytes)} used at most"
    return f"{network}: {f'{size_text(streamed)} streamed' if streamed else 'fits'}, {used}"


def _details(plans: dict[str, Plan], wanted: str) -> str:
    rows = [str(plans[wanted]), "", f"{'policy':16} {'segments':>8} {'stays':>11} {'streamed':>11} {'peak':>11} {'a step':>10}"]
    for policy, plan in plans.items():
        sizes = (plan.resident_bytes, plan.streamed_bytes_per_step, plan.peak_bytes)
        shown = " ".join(f"{size_text(size):>11}" for size in sizes)
        rows.append(f"{policy:16} {len(plan.segments):8} {shown} {seconds_text(plan.predicted_step_seconds):>10}")
    return "\n".join(rows)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    target = _target(arguments)
    wanted = MODEL["plan_policy"].check(arguments.plan_policy)
    make, what = (_file_planner if arguments.family is None else _family_planner)(arguments, target)
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        _images.check_output(plot)
    if arguments.curve:
        if arguments.max_vram is not None:
            raise InvalidArgumentError("--curve tries every budget; leave --max-vram out")
        points = curve(make, wanted)
        if plot is not None:
            line = [(at, plan.predicted_step_seconds) for at, plan in points]
            picture.save_curve({wanted: line}, plot, title=f"{what} on {target.words}", knee=knee(points))
        if arguments.json:
            print(json.dumps([{"max_vram": at, **asdict(plan)} for at, plan in points], indent=1))
        else:
            print(f"{what} on {target.words}\n{_curve_text(points)}")
        return 0
    budget = _budget(arguments, target)
    plans = make(wanted, budget)
    found = {wanted: _first(plans)}
    if arguments.json or arguments.verbose:
        for policy in MODEL["plan_policy"].choices[1:]:
            try:
                found[policy] = _first(make(policy, budget))
            except OverBudgetError:
                continue  # a comparison's; the plan that is wanted has passed
    if plot is not None:
        limit = "" if budget is None else f", max_vram {budget:g} GiB"
        picture.save(found[wanted], plot, title=f"{what} on {target.words}{limit}")
    if arguments.json:
        print(json.dumps({policy: asdict(plan) for policy, plan in found.items()}, indent=1))
    else:
        print(summary(make, wanted, plans, what=what, target=target, budget=budget))
        print(f"\n{_details(found, wanted)}" if arguments.verbose else "(-v shows every segment)")
    return 0
