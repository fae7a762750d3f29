"""Train the example LoRA for the embedded model: shapes become outlines.

usage: python training/train_lora.py --dir DIR [--minutes M] [--rank R] [--out examples/outlines.safetensors]
DIR holds the files that `unpack.py` writes. Every linear layer and convolution of the UNet gets a low-rank change.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import Autoencoder, ClipText, UNet
from pictures import Scene, caption, render
from safetensors.torch import save_file
from torch import Tensor, nn
from train import DEVICE, Clock, alphas_cumprod, autocast, learning_rate, log, set_rate, tokens, training_scene

BATCH = 16


class LowRank(nn.Module):
    """A layer with its change: y = layer(x) + up(down(x))."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Linear):
            self.down, self.up = nn.Linear(layer.in_features, rank, False), nn.Linear(rank, layer.out_features, False)
        else:
            size, stride, padding = layer.kernel_size, layer.stride, layer.padding
            self.down = nn.Conv2d(layer.in_channels, rank, size, stride, padding, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.layer(x, *rest) + self.up(self.down(x))


def adapted(net: nn.Module, rank: int) -> dict[str, LowRank]:
    """Put changes around all linear layers and convolutions; by the layers' names."""
    found: dict[str, LowRank] = {}
    for name, layer in list(net.named_modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and name != "input_blocks.0.0":
            found[name] = LowRank(layer, min(rank, min(layer.weight.shape[:2]))).to(DEVICE)
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, found[name])
    return found


def outlined(scenes: list[Scene], rng: random.Random) -> Tensor:
    array = np.stack([np.asarray(render(scene, rng, outlined=True)) for scene in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--kept-rank", type=int, default=7, help="how many of the strongest directions are written")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "examples" / "outlines.safetensors")
    options = parser.parse_args()
    rng, clock, step = random.Random(11), Clock(options.minutes), 0
    ae, text, net = Autoencoder().to(DEVICE).eval(), ClipText().to(DEVICE).eval(), UNet().to(DEVICE).eval()
    for module, file in ((ae, "ae.pt"), (text, "text.pt"), (net, "unet.pt")):
        module.load_state_dict(torch.load(options.dir / file))
        module.requires_grad_(False)
    scale = float((options.dir / "scale.txt").read_text())
    changes = adapted(net, options.rank)
    trained = [p for change in changes.values() for p in (*change.down.parameters(), *change.up.parameters())]
    optimizer = torch.optim.AdamW(trained, 1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    acp, losses = alphas_cumprod().to(DEVICE), []
    while clock.fraction < 1:
        scenes = [training_scene(rng) for _ in range(BATCH)]
        texts = ["" if rng.random() < 0.1 else caption(scene, rng) for scene in scenes]
        t = torch.randint(0, 1000, (BATCH,), device=DEVICE)
        a, s = acp[t].sqrt()[:, None, None, None], (1 - acp[t]).sqrt()[:, None, None, None]
        with torch.no_grad(), autocast():
            x0 = ae.encode(outlined(scenes, rng).to(DEVICE))[0].float() * scale
            states = text(torch.tensor([tokens(one, rng if one else None) for one in texts], device=DEVICE))
        noise = torch.randn_like(x0)
        set_rate(optimizer, learning_rate(2e-3, step, clock.fraction, 50, 0.5))
        with autocast():
            v = net(a * x0 + s * noise, t, states)
        snr = acp[t] / (1 - acp[t])
        weight = (5 / (snr + 1)).clamp(max=1)
        loss = (weight * F.mse_loss(v.float(), a * noise - s * x0, reduction="none").mean((1, 2, 3))).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if clock.every(60) or clock.fraction >= 1:
            log(options.dir, f"lora {step} loss {np.mean(losses):.4f} at {clock.fraction:.3f} of the time")
            losses = []
            save(changes, options.kept_rank, options.out)


def strongest(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best change of so low a rank: the first directions of the whole change's singular value decomposition."""
    u, s, v = torch.linalg.svd(up.flatten(1).float() @ down.flatten(1).float(), full_matrices=False)
    rank = min(rank, down.shape[0])
    root = s[:rank].sqrt()
    kept_down, kept_up = root[:, None] * v[:rank], u[:, :rank] * root
    return kept_down.reshape(rank, *down.shape[1:]), kept_up.reshape(up.shape[0], rank, *up.shape[2:])


def save(changes: dict[str, LowRank], rank: int, path: Path) -> None:
    """Write the changes under ComfyUI's names, in f16."""
    tensors = {}
    for name, change in changes.items():
        down, up = strongest(change.down.weight.detach(), change.up.weight.detach(), rank)  # type: ignore[arg-type]
        tensors[f"diffusion_model.{name}.lora_down.weight"] = down.half().contiguous()
        tensors[f"diffusion_model.{name}.lora_up.weight"] = up.half().contiguous()
    metadata = {"ss_output_name": path.stem, "licence": "MIT", "ss_network_dim": str(rank)}
    save_file({key: value.detach().cpu() for key, value in tensors.items()}, path, metadata)


if __name__ == "__main__":
    main()
