"""Train the embedded model on procedural pictures: autoencoder, text encoder, latents, UNet, decoder, in this order.

usage: python training/train.py STAGE --dir DIR [--minutes M] [--init FILE]    STAGE: ae | text | latents | unet | decoder
Every stage ends after `--minutes` of wall time (learning rates follow it), writes a checkpoint every two minutes into DIR and
logs to DIR/log.txt. Runs on a GPU when torch sees one, else in bfloat16 on the processor.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import TOKENS, Autoencoder, ClipText, UNet
from pictures import (
    COLOURS,
    PLACES_OF_TWO,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    caption,
    is_held_out,
    random_scene,
    render,
)
from PIL import Image
from torch import Tensor, nn

from sdcpp_py.text._clip_tokenizer import BEGIN, END, encode

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NEUTRAL_WORD = 49405  # an entry no caption uses; it stands for every word the model has not learnt
ids_of: dict[str, list[int]] = {}


class Clock:
    """Wall time of a stage: `fraction` runs from 0 to 1, `every(seconds)` is true once per interval."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds, self.last = time.time(), 60 * minutes, time.time()

    @property
    def fraction(self) -> float:
        return (time.time() - self.start) / self.seconds

    def every(self, seconds: float) -> bool:
        if time.time() - self.last < seconds:
            return False
        self.last = time.time()
        return True


def learning_rate(peak: float, step: int, fraction: float, warmup: int = 200, decay_from: float = 0.65) -> float:
    """Linear warm-up by steps, then constant, then linear decay to zero over the last part of the time."""
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, max(0.0, (1 - fraction) / (1 - decay_from)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def training_scene(rng: random.Random) -> Scene:
    while is_held_out(scene := random_scene(rng)):
        pass
    return scene


def pictures(scenes: list[Scene], rng: random.Random) -> Tensor:
    array = np.stack([np.asarray(render(s, rng)) for s in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def tokens(text: str, rng: random.Random | None = None, length: int = TOKENS) -> list[int]:
    """Token ids with begin and end marks, padded with end marks; with `rng`, now and then strewn with neutral words."""
    ids: list[int] = []
    for word in text.replace(",", " ,").split():
        if word not in ids_of:
            ids_of[word] = encode(word)
        ids += ids_of[word]
    if rng and rng.random() < 0.1:
        for _ in range(rng.randint(1, 3)):
            ids.insert(rng.randrange(len(ids) + 1), NEUTRAL_WORD)
    ids = [BEGIN, *ids[: length - 2], END]
    return ids + [END] * (length - len(ids))


def autocast() -> torch.autocast:
    """bf16 if the device multiplies it; processors without it would take many times as long as in f32."""
    fast = DEVICE.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=bool(fast))


def log(folder: Path, text: str) -> None:
    print(text, flush=True)
    with (folder / "log.txt").open("a") as f:
        f.write(text + "\n")


def train_autoencoder(folder: Path, minutes: float, init: str | None) -> None:
    rng, clock, step = random.Random(1), Clock(minutes), 0
    net = Autoencoder().to(DEVICE, memory_format=torch.channels_last)
    if init:
        net.load_state_dict(torch.load(init))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    check = pictures([random_scene(random.Random(k)) for k in range(16)], random.Random(5)).to(DEVICE)
    while clock.fraction < 1:
        x = pictures([random_scene(rng) for _ in range(16)], rng)
        crops = [(rng.randrange(65), rng.randrange(65)) for _ in range(16)]
        x = torch.stack([p[:, i : i + 64, j : j + 64] for p, (i, j) in zip(x, crops)]).to(DEVICE)
        x = x.contiguous(memory_format=torch.channels_last)
        set_rate(optimizer, learning_rate(2e-3, step, clock.fraction, 100, 0.3))
        with autocast():
            mean, logvar = net.encode(x)
            y = net.decode(mean + torch.randn_like(mean) * (0.5 * logvar).exp())
        kl = 0.5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).mean()
        error = y.float() - x
        loss = error.abs().mean() + (error**2).mean() + 1e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        if clock.every(60) or clock.fraction >= 1:
            with torch.no_grad(), autocast():
                mean, _ = net.encode(check)
                back = net.decode(mean).float().clamp(-1, 1)
            psnr = 10 * torch.log10(4 / ((back - check) ** 2).mean()).item()
            log(
                folder,
                f"ae {step} loss {loss.item():.4f} kl {kl.item():.2f} psnr {psnr:.2f} dB std {mean.float().std():.3f}",
            )
            torch.save(net.state_dict(), folder / "ae.pt")


def train_decoder(folder: Path, minutes: float, init: str | None, batch: int = 16) -> None:
    """Sharpen the decoder alone, so that latents keep their meaning: crops around the shapes, latents with a little noise."""
    rng, clock, step = random.Random(time.time_ns()), Clock(minutes), 0
    net = Autoencoder().to(DEVICE, memory_format=torch.channels_last)
    net.load_state_dict(torch.load(init or folder / "ae.pt"))
    trained = [*net.decoder.parameters(), *net.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(trained, 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    side, errors = 64, []
    while clock.fraction < 1:
        scenes = [training_scene(rng) for _ in range(batch)]
        crops = []
        for picture, scene in zip(pictures(scenes, rng), scenes):
            one = len(scene.shapes) == 1
            x, y = POSITIONS[scene.place] if one else PLACES_OF_TWO[rng.choice(RELATIONS[scene.place])]
            i, j = (min(64, max(0, round((at * 128 - side / 2 + rng.uniform(-16, 16)) / 8) * 8)) for at in (y, x))
            crops.append(picture[:, i : i + side, j : j + side])
        x = torch.stack(crops).to(DEVICE).contiguous(memory_format=torch.channels_last)
        set_rate(optimizer, learning_rate(1.5e-3, step, clock.fraction, 50, 0.4))
        with autocast():
            with torch.no_grad():
                mean, _ = net.encode(x)
                noisy = mean + torch.randn_like(mean) * mean.std() * rng.uniform(0, 0.1)
            y = net.decode(noisy)
        error = y.float() - x
        loss = error.abs().mean() + (error**2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step += 1
        errors.append((error**2).mean().item())
        if clock.every(60) or clock.fraction >= 1:
            log(folder, f"decoder {step} psnr around the shapes {10 * np.log10(4 / np.mean(errors)):.2f} dB")
            errors = []
            torch.save(net.state_dict(), folder / "ae_sharp.pt")


class SceneReader(nn.Module):
    """Reads the scene back from the text states, so that the text encoder learns to bind words before the UNet is trained.

    `heads` name the attributes from the end mark's state; `rough` paints a 16x16 picture by attention from 64 places.
    """

    ATTRIBUTES = [len(COLOURS), len(POSITIONS) + len(RELATIONS)] + 2 * [len(SHAPES), len(COLOURS), len(SIZES)]

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = nn.Linear(c, sum(self.ATTRIBUTES))
        self.places = nn.Parameter(torch.randn(64, c))
        self.attention = nn.MultiheadAttention(c, 3, batch_first=True)
        self.paint = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, 12))

    def forward(self, states: Tensor, read_at: Tensor) -> tuple[list[Tensor], Tensor]:
        n = states.shape[0]
        logits = self.heads(states[torch.arange(n), read_at]).split(self.ATTRIBUTES, -1)
        places = self.places.expand(n, -1, -1)
        seen = places + self.attention(places, states, states, need_weights=False)[0]
        rough = self.paint(seen).view(n, 8, 8, 2, 2, 3).permute(0, 5, 1, 3, 2, 4).reshape(n, 3, 16, 16)
        return list(logits), rough

    @staticmethod
    def targets(scene: Scene) -> list[int]:
        """Attribute numbers of `scene`, in the order of ATTRIBUTES; -100 if there is no second shape."""
        place = [*POSITIONS, *RELATIONS].index(scene.place)
        found = [list(COLOURS).index(scene.background), place]
        for shape in scene.shapes:
            found += [SHAPES.index(shape.kind), list(COLOURS).index(shape.colour), list(SIZES).index(shape.size)]
        return found + [-100] * (8 - len(found))


def train_text(folder: Path, minutes: float, init: str | None) -> None:
    rng, clock, step = random.Random(2), Clock(minutes), 0
    net, reader = ClipText().to(DEVICE), SceneReader(96).to(DEVICE)
    if init:
        net.load_state_dict(torch.load(init))
    optimizer = torch.optim.AdamW([*net.parameters(), *reader.parameters()], 1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    while clock.fraction < 1:
        length = TOKENS if rng.random() < 0.25 else 30
        scenes = [training_scene(rng) for _ in range(128)]
        target = torch.tensor([SceneReader.targets(s) for s in scenes], device=DEVICE)
        ids = torch.tensor([tokens(caption(s, rng), rng, length) for s in scenes], device=DEVICE)
        ends = (ids == END).int().argmax(1)
        read_at = torch.stack([ends, torch.full_like(ends, length - 1)], 1)
        picture = F.avg_pool2d(pictures(scenes, rng), 8).to(DEVICE)
        set_rate(optimizer, learning_rate(2e-3, step, clock.fraction, 300, 0.4))
        with autocast():
            logits, rough = reader(net(ids), read_at[:, step % 2])
        loss = 8 * F.mse_loss(rough.float(), picture)
        for number, logit in enumerate(logits):
            loss = loss + F.cross_entropy(logit.float(), target[:, number], ignore_index=-100)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        if clock.every(30) or clock.fraction >= 1:
            right = torch.stack([(lg.argmax(-1) == t) | (t < 0) for lg, t in zip(logits, target.T)]).all(0).float().mean().item()
            mse = F.mse_loss(rough.float(), picture).item()
            log(folder, f"text {step} loss {loss.item():.4f} rough mse {mse:.4f} all attributes right {right:.3f}")
            torch.save(net.state_dict(), folder / "text.pt")


def cache_latents(folder: Path, count: int) -> None:
    """Encode `count` training pictures once; writes their scenes and latents (means, scaled to unit variance)."""
    rng = random.Random(3)
    net = Autoencoder().to(DEVICE, memory_format=torch.channels_last)
    net.load_state_dict(torch.load(folder / "ae.pt"))
    scenes, latents, start = [], [], time.time()
    while len(scenes) < count:
        batch = [training_scene(rng) for _ in range(64)]
        x = pictures(batch, rng).to(DEVICE).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), autocast():
            latents.append(net.encode(x)[0].half().cpu())
        scenes += batch
    all_latents = torch.cat(latents)
    scale = 1 / all_latents.float().std().item()
    torch.save({"scenes": scenes, "latents": all_latents, "scale": scale}, folder / "latents.pt")
    log(folder, f"latents {count} scale {scale:.5f} in {time.time() - start:.0f} s")


def alphas_cumprod() -> Tensor:
    """Stable Diffusion's noise schedule ("scaled linear")."""
    return torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()


@torch.no_grad()
def sample(unet: nn.Module, text: nn.Module, prompts: list[str], steps: int = 20, guidance: float = 3.0) -> Tensor:
    """Latents by DDIM with classifier-free guidance; only to watch the training."""
    acp = alphas_cumprod().to(DEVICE)
    states = text(torch.tensor([tokens(p) for p in prompts] + [tokens("")] * len(prompts), device=DEVICE))
    x = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    times = torch.linspace(999, 0, steps + 1).round().long()
    for now, after in zip(times[:-1], times[1:]):
        with autocast():
            v = unet(torch.cat([x, x]), now.expand(2 * len(prompts)).to(DEVICE), states).float()
        cond, free = v.chunk(2)
        v = free + guidance * (cond - free)
        a, s = acp[now].sqrt(), (1 - acp[now]).sqrt()
        clean, noise = a * x - s * v, s * x + a * v
        x = acp[after].sqrt() * clean + (1 - acp[after]).sqrt() * noise
    return clean


def train_unet(folder: Path, minutes: float, init: str | None, batch: int = 64) -> None:
    rng, clock, step = random.Random(time.time_ns()), Clock(minutes), 0
    data = torch.load(folder / "latents.pt", weights_only=False)
    scenes, scale = data["scenes"], data["scale"]
    text = ClipText().to(DEVICE).eval()
    text.load_state_dict(torch.load(folder / "text.pt"))
    ae = Autoencoder().to(DEVICE).eval()
    ae.load_state_dict(torch.load(folder / "ae.pt"))
    net = UNet().to(DEVICE, memory_format=torch.channels_last)
    if init:
        net.load_state_dict(torch.load(init))
    mean_net = copy.deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    acp = alphas_cumprod().to(DEVICE)
    watch_rng = random.Random(7)
    watch: list[str] = []
    while len(watch) < 16:
        if is_held_out(scene := random_scene(watch_rng)):
            watch.append(caption(scene))
    losses: list[float] = []
    while clock.fraction < 1:
        chosen = [rng.randrange(len(scenes)) for _ in range(batch)]
        x0 = (data["latents"][chosen].float() * scale).to(DEVICE)
        texts = ["" if rng.random() < 0.1 else caption(scenes[k], rng) for k in chosen]
        ids = torch.tensor([tokens(t, rng if t else None) for t in texts], device=DEVICE)
        t = torch.randint(0, 1000, (batch,), device=DEVICE)
        a, s = acp[t].sqrt()[:, None, None, None], (1 - acp[t]).sqrt()[:, None, None, None]
        noise = torch.randn_like(x0)
        noisy = (a * x0 + s * noise).contiguous(memory_format=torch.channels_last)
        set_rate(optimizer, learning_rate(1.5e-3, step, clock.fraction, 500))
        with autocast():
            with torch.no_grad():
                states = text(ids)
            v = net(noisy, t, states)
        snr = acp[t] / (1 - acp[t])
        weight = (5 / (snr + 1)).clamp(max=1)
        loss = (weight * ((v.float() - (a * noise - s * x0)) ** 2).mean((1, 2, 3))).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean_net.parameters()), list(net.parameters()), 1 - decay)
        if clock.every(240) or clock.fraction >= 1:
            log(
                folder,
                f"unet {step} samples {step * batch} loss {np.mean(losses):.4f} at {clock.fraction:.3f} of the time",
            )
            losses = []
            torch.save(mean_net.state_dict(), folder / "unet.pt")
            torch.save(net.state_dict(), folder / "unet_last.pt")
            with torch.no_grad(), autocast():
                shown = ae.decode(sample(mean_net, text, watch) / scale).float().clamp(-1, 1).cpu()
            grid = shown.add(1).mul(127.5).byte().view(2, 8, 3, 128, 128).permute(0, 3, 1, 4, 2).reshape(256, 1024, 3)
            Image.fromarray(grid.numpy()).save(folder / "watch.png")
            (folder / "watch.txt").write_text("\n".join(watch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("ae", "text", "latents", "unet", "decoder"))
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--count", type=int, default=48000, help="pictures to encode (latents)")
    parser.add_argument("--init", help="a checkpoint of this stage to go on from")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0 if not options.init else time.time_ns() % 2**31)
    if options.stage == "ae":
        train_autoencoder(options.dir, options.minutes, options.init)
    elif options.stage == "text":
        train_text(options.dir, options.minutes, options.init)
    elif options.stage == "latents":
        cache_latents(options.dir, options.count)
    elif options.stage == "decoder":
        train_decoder(options.dir, options.minutes, options.init)
    else:
        train_unet(options.dir, options.minutes, options.init)


if __name__ == "__main__":
    main()
