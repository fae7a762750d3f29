"""PyTorch's part of gpu.py: the link alone, and diffusers' networks of the same shapes. One JSON line a row.

usage: python benchmarks/gpu_torch.py link|networks [--scale tiny|true] [--device CUDA0]

Networks have random weights in bf16 and run as they come: torch's own attention, nothing compiled. Without torch, or without
diffusers, the one row says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

MIB = 2**20
_STEPS, _WARM_STEPS = 7, 3

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]


def say(**row: Any) -> None:
    print(json.dumps(row), flush=True)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(device: str, work: Callable[[], Any], steps: int = _STEPS) -> list[float]:
    """Times of single runs, each waited for."""
    out = []
    for number in range(_WARM_STEPS + steps):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        if number >= _WARM_STEPS:
            out.append(time.perf_counter() - start)
    return out


def link(scale: str, device: str) -> None:
    """Host to device, pinned and not; a kernel's launch; an event there and back."""
    for mib in (8, 64, 512) if scale == "true" else (1, 8):
        target = torch.empty(mib * MIB, dtype=torch.uint8, device=device)
        for pinned in (True, False) if device == "cuda" else (False,):
            source = torch.ones(mib * MIB, dtype=torch.uint8, pin_memory=pinned)
            times = seconds(device, lambda a=target, b=source: a.copy_(b, non_blocking=True))
            rate = mib * MIB / statistics.median(times) / 1e9
            best = mib * MIB / min(times) / 1e9
            say(measured="host to device", mib=mib, pinned=pinned, gb_per_s=rate, gb_per_s_at_most=best)
    small = torch.zeros(1, device=device)
    many = 1000

    def launches() -> None:
        for _ in range(many):
            small.add_(1)

    say(measured="a small kernel, one of many", seconds=statistics.median(seconds(device, launches)) / many)
    say(measured="a small kernel, waited for", seconds=statistics.median(seconds(device, lambda: small.add_(1), 50)))
    side = 8192 if scale == "true" else 64
    matrix = torch.randn(side, side, device=device).to(torch.bfloat16)
    times = seconds(device, lambda: matrix @ matrix)
    say(measured="product of bf16 matrices", side=side, tflops=2 * side**3 / statistics.median(times) / 1e12)


def random_network(make: Callable[[], Any], device: str) -> Any:
    """A network on the device with small random weights, without a copy on the host."""
    with torch.device("meta"):
        network = make()
    network = network.to(torch.bfloat16).to_empty(device=device).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(1.0)
    return network


def report(device: str, work: Callable[[], Any], **facts: Any) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = seconds(device, work)
    row = {"seconds": statistics.median(times), "seconds_min": min(times), "seconds_max": max(times), "steps": len(times)}
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    say(beside="diffusers", torch=torch.__version__, dtype="bf16", torch_peak_bytes=peak, **facts, **row)


def unets(scale: str, device: str) -> None:
    from diffusers import UNet2DConditionModel

    true = scale == "true"
    widths = (320, 640, 1280) if true else (32, 64, 64)
    xl = {
        "block_out_channels": widths,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10) if true else 1,
        "attention_head_dim": (5, 10, 20) if true else 4,
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    sd15 = {"cross_attention_dim": 768, "attention_head_dim": 8 if true else 4}
    sd15 |= {} if true else {"block_out_channels": (32, 32, 64, 64)}
    for model, config, side, context in (("sdxl", xl, 128, 2048), ("sd15", sd15, 64, 768)):
        network = random_network(lambda config=config: UNet2DConditionModel(**config), device)
        side = side if true else 16
        for batch in (2, 1):
            options = {"device": device, "dtype": torch.bfloat16}
            x, states = torch.randn(batch, 4, side, side, **options), torch.randn(batch, 77, context, **options)
            added = {"text_embeds": torch.randn(batch, 1280, **options), "time_ids": torch.zeros(batch, 6, device=device)}
            more = {"added_cond_kwargs": added} if model == "sdxl" else {}
            size = {"model": model, "network": "unet", "width": 8 * side, "height": 8 * side, "batch": batch}
            report(device, lambda n=network, x=x, s=states, m=more: n(x, 500, s, **m), **size)
        del network


def z_image(scale: str, device: str) -> None:
    from diffusers import ZImageTransformer2DModel

    true = scale == "true"
    small = {"dim": 64, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "axes_dims": [4, 6, 6]}
    network = random_network(lambda: ZImageTransformer2DModel(**({} if true else small)), device)
    for width, height, batch in ((128, 128, 1), (128, 86, 2)) if true else ((16, 16, 1),):
        options = {"device": device, "dtype": torch.bfloat16}
        x = [torch.randn(16, 1, height, width, **options) for _ in range(batch)]
        states = [torch.randn(128, 2560, **options) for _ in range(batch)]
        when = torch.full((batch,), 0.5, device=device)
        size = {"model": "z-image", "network": "z_image", "width": 8 * width, "height": 8 * height, "batch": batch}
        report(device, lambda x=x, w=when, s=states: network(x, w, s), **size)


def flux(scale: str, device: str) -> None:
    from diffusers import FluxTransformer2DModel

    true = scale == "true"
    small = {
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "axes_dims_rope": (4, 6, 6),
    }
    network = random_network(lambda: FluxTransformer2DModel(guidance_embeds=True, **({} if true else small)), device)
    side, words = (64, 512) if true else (8, 16)
    options = {"device": device, "dtype": torch.bfloat16}
    inputs = {
        "hidden_states": torch.randn(1, side * side, 64, **options),
        "encoder_hidden_states": torch.randn(1, words, 4096, **options),
        "pooled_projections": torch.randn(1, 768, **options),
        "timestep": torch.full((1,), 0.5, **options),
        "guidance": torch.full((1,), 3.5, **options),
        "img_ids": torch.cartesian_prod(torch.zeros(1), *(torch.arange(side, dtype=torch.float32),) * 2).to(device),
        "txt_ids": torch.zeros(words, 3, device=device),
    }
    size = {"model": "flux", "network": "flux", "width": 16 * side, "height": 16 * side, "batch": 1}
    report(device, lambda: network(**inputs), **size)


def vae(scale: str, device: str) -> None:
    from diffusers import AutoencoderKL

    true = scale == "true"
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512) if true else (32, 32, 32, 32),
        "layers_per_block": 2,
        "latent_channels": 4,
    }
    network, side = random_network(lambda: AutoencoderKL(**config), device), 128 if true else 16
    latent = torch.randn(1, 4, side, side, device=device, dtype=torch.bfloat16)
    size = {"model": "sdxl", "network": "vae.decoder", "width": 8 * side, "height": 8 * side, "batch": 1}
    report(device, lambda: network.decode(latent), **size)


def networks(scale: str, device: str) -> None:
    """Each alone: a failure leaves a row, and the others go on."""
    for part in (unets, z_image, flux, vae):
        try:
            part(scale, device)
        except Exception as problem:
            say(error=type(problem).__name__, message=f"{part.__name__}: {problem}"[:400])
        if device == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("link", "networks"))
    parser.add_argument("--scale", choices=("true", "tiny"), default="true")
    parser.add_argument("--device", default="CUDA0")
    options = parser.parse_args()
    if torch is None:
        say(skipped="torch is not installed")
        return
    on_gpu = options.device.upper().startswith("CUDA") and torch.cuda.is_available()
    if options.scale == "true" and not on_gpu:
        say(skipped="torch sees no GPU")
        return
    with torch.inference_mode():
        (link if options.what == "link" else networks)(options.scale, "cuda" if on_gpu else "cpu")


if __name__ == "__main__":
    main()
