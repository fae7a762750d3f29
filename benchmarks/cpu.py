"""Speed on the processor, compared with diffusers: networks of true size with random weights.

usage: python benchmarks/cpu.py --sd15 FILE [--sdxl FOLDER] [--rounds N] [--json FILE] [--only TEXT]

FILE is written by `python benchmarks/random_sd15.py FILE` (2.1 GB), FOLDER by `python benchmarks/random_family.py sdxl FOLDER`
(7 GB). Needs the extra `oracle` and a C compiler. Every engine is a process of its own; they take turns, round by round, each
with the processor to itself. Figures are medians of the rounds: seconds of CPU time (all threads), wall seconds, and the most
memory that the process held. The last table sets each kind of operation beside what the processor could do at most, measured in
the same run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from text_to_image import PROMPT, processor

LATENT = {"sd15": 64, "sdxl": 128}
CLIP_ROWS = 2


def inputs(family: str, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    side, width = LATENT[family], {"sd15": 768, "sdxl": 2048}[family]
    found = {
        "x": rng.standard_normal((batch, 4, side, side), np.float32),
        "timesteps": np.full(batch, 500.0, np.float32),
        "context": rng.standard_normal((batch, 77, width), np.float32),
    }
    return found | ({"pooled": rng.standard_normal((batch, 1280), np.float32)} if family == "sdxl" else {})


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 49406, (CLIP_ROWS, 77)).astype(np.int32)


def ours(family: str, path: Path, wtype: str | None, precision: str, profile: bool) -> dict[str, Callable[[], Any]]:
    import sdcpp_py

    pipeline = sdcpp_py.Pipeline(path, wtype=wtype, max_vram=0, matmul_precision=precision, profile=profile, device="CPU")
    one, two = inputs(family, 1), inputs(family, 2)
    jobs: dict[str, Callable[[], Any]] = {"UNet, batch 1": lambda: pipeline.evaluate("unet", **one)}
    if family == "sd15":
        jobs["UNet, batch 2"] = lambda: pipeline.evaluate("unet", **two)
        jobs["VAE decode"] = lambda: pipeline.decode(one["x"][0], vae_tiling=False)
        jobs["CLIP, both prompts"] = lambda: pipeline.evaluate("clip_l", tokens=tokens())
    jobs["profile"] = pipeline.take_profile
    return jobs


def theirs(family: str, bf16: bool) -> dict[str, Callable[[], Any]]:
    """Random weights of their own: speed does not depend on the values. Channels last, as is fastest."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from random_family import XL_UNET
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.set_grad_enabled(False)
    kind = torch.bfloat16 if bf16 else torch.float32
    torch.set_default_dtype(kind)

    def given(batch: int) -> dict[str, Any]:
        return {name: torch.from_numpy(array).to(kind) for name, array in inputs(family, batch).items()}

    if family == "sdxl":
        unet = UNet2DConditionModel(**XL_UNET).eval().to(memory_format=torch.channels_last)
        x = given(1)
        sizes = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]])
        added = {"text_embeds": x["pooled"], "time_ids": sizes}
        return {"UNet, batch 1": lambda: unet(x["x"], x["timesteps"], x["context"], added_cond_kwargs=added)}
    down, up = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    widths = (320, 640, 1280, 1280)
    unet = UNet2DConditionModel(
        block_out_channels=widths, down_block_types=down, up_block_types=up, cross_attention_dim=768, attention_head_dim=8
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )
    clip = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    ).eval()
    unet, vae = (net.eval().to(memory_format=torch.channels_last) for net in (unet, vae))
    one, two, ids = given(1), given(2), torch.from_numpy(tokens()).long()
    return {
        "UNet, batch 1": lambda: unet(one["x"], one["timesteps"], one["context"]),
        "UNet, batch 2": lambda: unet(two["x"], two["timesteps"], two["context"]),
        "VAE decode": lambda: vae.decode(one["x"]),
        "CLIP, both prompts": lambda: clip(ids),
    }


def peak_mib() -> float:
    """The most resident memory since the last `clear_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def clear_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def serve(pipe: Connection, engine: str, family: str, path: Path) -> None:
    """Answer the names of jobs with (wall seconds, CPU seconds, peak MiB), "profile" with its rows."""
    if engine.startswith("diffusers"):
        jobs = theirs(family, engine.endswith("bf16"))
    else:
        kind = engine.removeprefix("ours").strip() or None
        wtype = kind if kind in ("q8_0", "q4_K") else None
        jobs = ours(family, path, wtype, "bf16" if kind == "bf16" else "f32", kind == "profiled")
    pipe.send(list(jobs))
    while (name := pipe.recv()) is not None:
        if name == "profile":
            pipe.send(jobs[name]())
            continue
        clear_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        jobs[name]()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, peak_mib()))


class Engine:
    def __init__(self, name: str, family: str, path: Path) -> None:
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(other, name, family, path))
        self.process.start()
        other.close()
        self.jobs = self.pipe.recv()

    def ask(self, name: str) -> Any:
        self.pipe.send(name)
        return self.pipe.recv()

    def end(self) -> None:
        self.pipe.send(None)
        self.process.join()


def compare(family: str, path: Path, engines: list[str], rounds: int, only: str) -> dict[str, dict[str, list[float]]]:
    """By job and engine: medians of CPU seconds, wall seconds and peak MiB."""
    running = {name: Engine(name, family, path) for name in engines}
    times: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    names = [job for job in next(iter(running.values())).jobs if job != "profile" and only in f"{family} {job}"]
    for job in names:
        for number in range(rounds + 1):  # the first makes plans and touches memory
            for name, engine in running.items():
                if job in engine.jobs and (not name.startswith("ours q") or job == "UNet, batch 1"):
                    found = engine.ask(job)
                    if number:
                        times.setdefault((job, name), []).append(found)
    for engine in running.values():
        engine.end()
    out: dict[str, dict[str, list[float]]] = {}
    for (job, name), found in times.items():
        wall, cpu, peak = (statistics.median(values) for values in zip(*found))
        out.setdefault(f"{family} {job}", {})[name] = [cpu, wall, peak]
    return out


def limits() -> dict[str, float]:
    """All cores together: multiplications and additions a second in f32 and bf16, bytes a second read."""
    import cffi

    source = Path(__file__).with_name("limits.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        compiler = os.environ.get("CC", "cc")
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", str(library), str(source)], check=True)
        ffi = cffi.FFI()
        ffi.cdef("double fma_per_second(int64_t); double bf16_per_second(int64_t); double read_per_second(float*, int64_t);")
        lib = ffi.dlopen(str(library))
        cores = len(os.sched_getaffinity(0))
        data = [np.ones(1 << 26, np.float32) for _ in range(cores)]

        def both(work: Callable[[int], float]) -> float:
            with ThreadPoolExecutor(cores) as pool:
                return max(sum(pool.map(work, range(cores))) for _ in range(3))

        return {
            "f32": both(lambda _: lib.fma_per_second(20_000_000)),
            "bf16": both(lambda _: lib.bf16_per_second(20_000_000)),
            "bytes": both(lambda n: lib.read_per_second(ffi.cast("float*", data[n].ctypes.data), data[n].size)),
        }


def shares(family: str, path: Path, job: str, most: dict[str, float]) -> list[tuple[str, float, float, float]]:
    """Kinds of operation: seconds, GFLOP/s, and the share of the limit that is reached."""
    engine = Engine("ours profiled", family, path)
    engine.ask(job)
    engine.ask("profile")
    engine.ask(job)
    sums: dict[str, list[float]] = {}
    for row in engine.ask("profile"):
        into = sums.setdefault(row.operation, [0.0] * 3)
        for place, value in enumerate((row.seconds, row.flops, row.bytes)):
            into[place] += value
    engine.end()
    out = []
    for name, (seconds, flops, size) in sorted(sums.items(), key=lambda item: -item[1][0]):
        least = max(flops / most["f32"], size / most["bytes"])
        out.append((name, seconds, flops / seconds / 1e9, least / seconds))
    return out


def embedded(rounds: int) -> dict[str, list[float]]:
    """The picture of the embedded model, whole processes: with our operations and with ggml's alone."""
    from text_to_image import child

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sdcpp_py", "generate", PROMPT, "-s", "1"]
        runs: dict[str, list[tuple[float, float, float]]] = {"ours": [], "ours, ggml alone": []}
        for number in range(rounds + 1):
            for name, more in (("ours", []), ("ours, ggml alone", ["--no-blas"])):
                before = os.times()
                wall, peak = child([*command, *more], folder)
                after = os.times()
                cpu = after.children_user + after.children_system - before.children_user - before.children_system
                if number:
                    runs[name].append((cpu, wall, peak))
    return {name: [statistics.median(values) for values in zip(*found)] for name, found in runs.items()}


def has_bf16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd15", type=Path)
    parser.add_argument("--sdxl", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT", help="jobs whose names hold this, such as 'sd15 UNet'")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    cores = len(os.sched_getaffinity(0))
    together = [["ours", "ours q8_0", "ours q4_K", "diffusers f32"], ["ours bf16", "diffusers bf16"]]
    figures: dict[str, dict[str, list[float]]] = {}
    if options.only in "embedded picture":  # first: a child's peak memory begins with its parent's
        figures["embedded picture"] = embedded(options.rounds)
    most = limits()
    print(f"{processor()}, {cores} cores: {most['f32'] / 1e9:.0f} GFLOP/s in f32, {most['bytes'] / 1e9:.1f} GB/s read")
    files = [("sd15", options.sd15), ("sdxl", options.sdxl)]
    profiles = {}
    for family, path in files:
        if path is None:
            continue
        for engines in together if has_bf16() else together[:1]:
            if family == "sdxl":  # memory holds no second network with it
                engines = [name for name in engines if not name.startswith("ours q")]
            for job, found in compare(family, path, engines, options.rounds, options.only).items():
                figures.setdefault(job, {}).update(found)
        for job in ("UNet, batch 1", "VAE decode"):
            if f"{family} {job}" in figures:
                profiles[f"{family} {job}"] = shares(family, path, job, most)
    for job, engines in figures.items():
        print(job)
        base = engines["ours"][0]
        for name, (cpu, wall, peak) in engines.items():
            print(f"  {name:20} {cpu:8.2f} s of CPU  {wall:8.2f} s  {peak:8.0f} MiB  {cpu / base:6.2f}")
    for job, rows in profiles.items():
        print(f"{job}, by operation: seconds, GFLOP/s, share of the limit")
        for name, seconds, speed, share in rows:
            print(f"  {name:26} {seconds:8.3f} {speed:8.1f} {100 * share:6.0f}%")
    if options.json:
        found = {"processor": processor(), "cores": cores, "limits": most, "figures": figures, "operations": profiles}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
