"""Streaming compared with the limit of link and compute: on paper, on the simulated device, and by the system's own count.

usage: python benchmarks/streaming.py --paper [--json FILE]
       python benchmarks/streaming.py --turns [--json FILE]
       python benchmarks/streaming.py MODEL [--links 0.5,2,8] [--size 128] [--steps 4] [--plot FILE] [--memory] [--json FILE]

`--paper` plans well-known models for devices that are not here, from their shapes alone: the published workloads by every policy,
then each model on each device. The figures are seconds of a step over the limit.

`--turns` runs the embedded model on the simulated device. It compares what two shapes or networks upload in turns with what the
same runs upload in sorted order. "by plans" is the ratio that follows from the plans that each has alone.

MODEL: a checkpoint of 300 MB or more, such as random_sd15.py writes. One row per budget and link: the measured step
beside its limit, which is the larger of computing (as measured in the same run) and uploading the plan's streamed bytes, and
beside what no plan under that budget could beat with the measured times. One thread computes, so that uploads have a core to
themselves.
`--memory` runs the model on the CPU under --max-vram 0.6 and without, at 256x256, and prints what the system says each took.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import sdcpp_py
from sdcpp_py import errors, families
from sdcpp_py.plan import picture as plan_picture
from sdcpp_py.plan import planner

GIB = 2**30


def step(model: Path, budget: float, link: float, policy: str, size: int, steps: int) -> dict[str, Any]:
    """One generation on the simulated device; budget in GiB, link in GB/s."""
    device = f"simulated:vram={budget * 1.001:.6f},link={link}"
    with sdcpp_py.Pipeline(model, device=device, max_vram=budget, plan_policy=policy, threads=1) as pipeline:
        pipeline.generate("x", width=size, height=size, steps=2, cfg_scale=3, seed=1, progress=False)  # loads, and learns
        result = pipeline.generate("x", width=size, height=size, steps=steps, cfg_scale=3, seed=1, progress=False)
    report = result.reports["unet"]
    compute = report.compute_seconds_per_step
    limit = max(compute, report.plan.streamed_bytes_per_step / (link * 1e9))
    return {
        "policy": policy,
        "budget_gib": budget,
        "link_gb_per_s": link,
        "resident_mib": report.plan.resident_bytes / 2**20,
        "streamed_mib": report.plan.streamed_bytes_per_step / 2**20,
        "peak_mib": result.memory["peak"] / 2**20,
        "compute_s": compute,
        "limit_s": limit,
        "bound_s": report.plan.limit_step_seconds,
        "measured_s": report.step_seconds,
        "predicted_s": report.plan.predicted_step_seconds,
        "stall_s": report.stall_seconds / report.runs,
    }


def least_budget(model: Path, size: int) -> float:
    with sdcpp_py.Pipeline(model, max_vram=0.001) as pipeline:
        needs = []
        for network in ("clip_l", "unet", "vae.decoder"):
            try:
                pipeline.plan(width=size, height=size, cfg_scale=3, network=network)
            except errors.OverBudgetError as problem:
                needs.append(problem.least_bytes)
    return max(needs) / GIB * 1.02


def weights_gib(model: Path, size: int) -> float:
    with sdcpp_py.Pipeline(model, max_vram=1000) as pipeline:
        return pipeline.plan(width=size, height=size).peak_bytes / GIB


def in_memory(model: Path, arguments: list[str]) -> dict[str, float]:
    """A generation in a process of its own: seconds, and the resident memory it took at most (MiB)."""
    command = [sys.executable, "-m", "sdcpp_py", "generate", "x", "-m", str(model), "-W", "256", "-H", "256", "--steps", "2"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "picture.png")
        subprocess.run([*command, "-s", "1", "-o", target, "--no-progress", *arguments], check=True, capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest child's so far
    return {"seconds": time.perf_counter() - start, "resident_mib": peak}


def uploads(order: list[tuple[str, int, int]], mib: float) -> dict[str, Any]:
    """The reports of networks that ran on inputs (name, batch, side) in this order."""
    rng = np.random.default_rng(0)
    with sdcpp_py.Pipeline(device="simulated", max_vram=mib / 1024, link_speed=(5e10, 2e9)) as pipeline:
        for network, batch, side in order:
            inputs = {"x": rng.standard_normal((batch, 4, side, side), np.float32)}
            if network == "unet":
                inputs |= {"timesteps": np.full(batch, 500.0, np.float32)}
                inputs |= {"context": rng.standard_normal((batch, 77, 96), np.float32)}
            pipeline.evaluate(network, **inputs)
        return pipeline._reports()


def turns(cycles: int = 6) -> list[dict[str, Any]]:
    """Bytes that are uploaded if two uses of the embedded model take turns, and if they run one after the other."""
    rows: list[dict[str, Any]] = []
    unet, decoder = ("unet", 1, 16), ("vae.decoder", 1, 16)
    cases = [
        ("two sizes", unet, ("unet", 1, 24)),
        ("batch 1 and 2", unet, ("unet", 2, 16)),
        ("denoiser and decoder", unet, decoder),
    ]
    print(f"{'taking turns':22} {'budget':>9} {'in turns':>10} {'sorted':>10} {'ratio':>6} {'by plans':>9}")
    for name, one, other in cases:
        for mib in (9.0, 10.5, 12.3, 18.0):
            try:
                turned = uploads([one, other] * cycles, mib)
                ordered = uploads([one] * cycles + [other] * cycles, mib)
            except errors.OverBudgetError:
                continue
            sums = [sum(r.uploaded_bytes for r in reports.values()) / 2**20 for reports in (turned, ordered)]
            if one[0] == other[0]:  # weights that the larger use's plan streams do not stay for the smaller one
                plans = [uploads([use] * 2, mib)[use[0]].plan for use in (one, other)]
                lost = (plans[1].streamed_bytes_per_step - plans[0].streamed_bytes_per_step) / 2**20
            else:
                plans = [ordered[use[0]].plan for use in (one, other)]
                each = ((own.resident_bytes + beside.peak_bytes) / 2**20 - mib for own, beside in (plans, plans[::-1]))
                lost = sum(max(0.0, mebibytes) for mebibytes in each)
            row = {"case": name, "budget_mib": mib, "turned_mib": sums[0], "sorted_mib": sums[1]}
            rows.append(row | {"ratio": sums[0] / sums[1], "planned_ratio": 1 + (cycles - 1) * lost / sums[1]})
            ratios = f"{rows[-1]['ratio']:6.2f} {rows[-1]['planned_ratio']:9.2f}"
            print(f"{name:22} {mib:5.1f} MiB {sums[0]:6.1f} MiB {sums[1]:6.1f} MiB {ratios}", flush=True)
    return rows


def paper() -> list[dict[str, Any]]:
    """Plans without weights or device."""
    rows: list[dict[str, Any]] = []

    def one(
        name: str, profile: str, budget: float, policy: str, microbatches: int, width: int, height: int
    ) -> planner.Plan | None:
        device = families.PROFILES[profile]
        stages = families.stages(name, wtype="bf16", width=width, height=height, tflops=device.tflops)
        link = device.link_gb_per_s * 1e9
        try:
            made = planner.plan(
                stages, budget_bytes=int(budget * GIB), policy=policy, link_bytes_per_s=link, microbatches=microbatches
            )
        except errors.OverBudgetError:
            return None
        row = {"model": name, "profile": profile, "budget_gib": budget, "policy": policy, "microbatches": microbatches}
        row |= {"segments": len(made.segments), "resident_bytes": made.resident_bytes, "peak_bytes": made.peak_bytes}
        row |= {"streamed_bytes": made.streamed_bytes_per_step, "seconds": made.predicted_step_seconds}
        rows.append(row | {"limit_seconds": made.limit_step_seconds})
        return made

    policies = ("full", "capped", "capped+prefetch", "pipelined")
    print("The published workloads on an RTX 3060, bf16, batch 2 without guidance; the budget is what the card had left")
    print(f"{'model':8} {'budget':>9} {'policy':16} {'segments':>8} {'resident':>9} {'streamed':>9} {'step':>8} {'/limit':>7}")
    for name, size in (("sdxl", (1152, 896)), ("z-image", (1024, 688))):
        for budget in (10.6, 7.0):
            for policy in policies:
                made = one(name, "rtx3060", budget, policy, 2, *size)
                if made is None:
                    continue
                sizes = f"{made.resident_bytes / 1e9:6.2f} GB {made.streamed_bytes_per_step / 1e9:6.2f} GB"
                ratio = made.predicted_step_seconds / made.limit_step_seconds
                times = f"{made.predicted_step_seconds:6.2f} s {ratio:6.2f}x"
                print(f"{name:8} {budget:5.1f} GiB {policy:16} {len(made.segments):8} {sizes} {times}")
    print("\nSeconds of a step over the limit, 1024x1024 (wan-14b: 832x480, 33 frames), the device's memory less 1.4 GiB")
    print(f"{'model':11} {'profile':15} {'microbatches':>12} " + " ".join(f"{policy:>16}" for policy in policies))
    for name in families.names():
        size = (832, 480) if name == "wan-14b" else (512, 512) if name == "sd1" else (1024, 1024)
        for profile, device in families.PROFILES.items():
            for microbatches in (1, 2, 4):  # one picture, two or one with guidance, two with guidance
                cells = []
                for policy in policies:
                    made = one(name, profile, device.vram_gib - 1.4, policy, microbatches, *size)
                    if made is None:
                        cells.append(f"{'does not fit':>16}")
                        continue
                    cell = f"{made.predicted_step_seconds:.2f} s {made.predicted_step_seconds / made.limit_step_seconds:.2f}x"
                    cells.append(f"{cell:>16}")
                print(f"{name:11} {profile:15} {microbatches:12} " + " ".join(cells))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--turns", action="store_true")
    parser.add_argument("--links", default="0.5,2,8")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--plot", type=Path, help="seconds per step over the budget, measured and predicted")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.paper and not options.turns and options.model is None:
        parser.error("give a model, --paper or --turns")
    rows: list[dict[str, Any]] = []
    if options.paper:
        rows = paper()
    elif options.turns:
        rows = turns()
    elif options.memory:
        for name, arguments in (("--max-vram 0.6", ["--max-vram", "0.6"]), ("all in memory", [])):  # the smaller one first
            found = in_memory(options.model, arguments)
            print(f"{name:16} {found['seconds']:7.1f} s  {found['resident_mib']:8.0f} MiB resident at most", flush=True)
            rows.append({"run": name, **found})
    else:
        least, whole = least_budget(options.model, options.size), weights_gib(options.model, options.size)
        budgets = sorted({least, *(whole * share for share in (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.02) if whole * share > least)})
        heads = (
            ("budget", 9),
            ("link", 9),
            ("streamed", 10),
            ("compute", 8),
            ("limit", 8),
            ("measured", 9),
            ("/limit", 7),
            ("/bound", 7),
        )
        print("policy    ", *(f"{text:>{width}}" for text, width in heads), "predicted")
        for link in (float(text) for text in options.links.split(",")):
            for budget in budgets:
                middle = budget == budgets[len(budgets) // 2]
                for policy in ("pipelined", "capped", "full") if middle else ("pipelined",):
                    row = step(options.model, budget, link, policy, options.size, options.steps)
                    rows.append(row)
                    ratio, bound = (row["measured_s"] / row[key] for key in ("limit_s", "bound_s"))
                    times = f"{row['compute_s']:6.2f} s {row['limit_s']:6.2f} s {row['measured_s']:7.2f} s"
                    times += f" {ratio:6.2f}x {bound:6.2f}x"
                    where = f"{policy:10} {budget:5.2f} GiB {link:4.1f} GB/s {row['streamed_mib']:6.0f} MiB"
                    print(where, times, f"{row['predicted_s']:7.2f} s", flush=True)
        if options.plot:
            curves: dict[str, list[tuple[float, float]]] = {}
            for row in rows:
                if row["policy"] == "pipelined":
                    for kind in ("measured", "predicted"):
                        name = f"{kind}, {row['link_gb_per_s']:g} GB/s"
                        curves.setdefault(name, []).append((row["budget_gib"], row[f"{kind}_s"]))
            plan_picture.save_curve(curves, options.plot)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
