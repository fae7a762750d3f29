"""CLIP's vision encoder and IP-Adapters against transformers and diffusers."""

import ip_adapter_files as files
import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from test_pipeline import embed
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.ip_adapter import IPAdapter, seen_by_clip

TOLERANCE = 1e-4
PICTURE = Image.fromarray(files.picture())


def vision_encoder(**config):
    net = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**files.VISION, **config}))
    state = {name: torch.from_numpy(array) for name, array in files.vision(config.get("hidden_size", files.WIDTH)).items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    return net.eval()


def seen():
    return torch.from_numpy(seen_by_clip(PICTURE, files.SIDE)[None])


@torch.no_grad()
def embeds(kind, rows=1):
    """What diffusers' pipelines give an adapter of a picture."""
    found = vision_encoder()(seen(), output_hidden_states=True)
    one = found.image_embeds[:, None] if kind == "base" else found.hidden_states[-2][:, None]
    return one.repeat_interleave(rows, 0)


def with_adapters(unet, *many):
    """``unet`` with adapters, each its tensors and strength."""
    states = []
    for tensors, _ in many:
        parts = {"image_proj": {}, "ip_adapter": {}}
        for name, array in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = torch.from_numpy(np.ascontiguousarray(array))
        states.append(parts)
    unet._load_ip_adapter_weights(states)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [strength for _, strength in many]
    return unet


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    return files.write_vision(tmp_path_factory.mktemp("eyes") / "image_encoder")


@pytest.fixture(scope="module")
def seeing(folder, eyes):
    with sdcpp_py.Pipeline(folder, clip_vision=eyes) as made:
        yield made


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory, eyes):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path_factory.mktemp("sdxl"), "sdxl"), clip_vision=eyes) as made:
        yield made


@torch.no_grad()
def test_the_vision_encoder(seeing, error, randn):
    x = randn(2, 3, files.SIDE, files.SIDE)
    assert error(seeing.evaluate("clip_vision", x=x.numpy()), vision_encoder()(x).image_embeds) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_a_file_without_a_config(folder, error, randn, tmp_path, activation):
    """Of width 64 there is one head of 64; OpenAI's activation is that of narrow encoders."""
    x = randn(1, 3, files.SIDE, files.SIDE)
    net = vision_encoder(hidden_size=64, num_attention_heads=1, intermediate_size=128, hidden_act=activation)
    path = files.write(tmp_path / "model.safetensors", files.vision(64))
    with sdcpp_py.Pipeline(folder, clip_vision=path) as pipeline:
        ours = error(pipeline.evaluate("clip_vision", x=x.numpy()), net(x).image_embeds)
    assert (ours < TOLERANCE) == (activation == "quick_gelu")


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (224, 224), (640, 360), (31, 1000)])
def test_pictures_are_seen_as_transformers_processes_them(size):
    """To the last bits of a division; the middle of a picture of odd sides lies where theirs does."""
    picture = Image.fromarray(np.random.RandomState(1).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    theirs = CLIPImageProcessor()(picture, return_tensors="np").pixel_values[0]
    np.testing.assert_allclose(seen_by_clip(picture, 224), theirs, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", files.KINDS)
def test_sd1(seeing, error, randn, tmp_path, kind):
    x, context, t = randn(2, 4, 16, 12), randn(2, 77, 32), torch.tensor([3.0, 870.0])
    tensors = files.KINDS[kind]()
    unet = with_adapters(tiny_models.unet(), (tensors, 0.7))
    theirs = unet(x, t, context, added_cond_kwargs={"image_embeds": [embeds(kind, 2)]}).sample
    plain = tiny_models.unet()(x, t, context).sample
    path = files.write(tmp_path / "adapter.safetensors", tensors)
    given = {"x": x.numpy(), "timesteps": t.numpy(), "context": context.numpy()}
    assert error(seeing.evaluate("unet", ip_adapters=[(path, PICTURE, 0.7)], **given), theirs) < TOLERANCE
    assert error(plain.numpy(), theirs) > 0.03


@torch.no_grad()
@pytest.mark.parametrize("kind", files.KINDS)
def test_xl(sdxl, error, randn, tmp_path, kind):
    x, context, pooled, t = randn(2, 4, 16, 12), randn(2, 77, 64), randn(2, 32), torch.tensor([3.0, 870.0])
    tensors = files.KINDS[kind]("xl_unet")
    sizes = torch.tensor([[128, 96, 0, 0, 128, 96]]).float().expand(2, -1)
    more = {"text_embeds": pooled, "time_ids": sizes}
    unet = with_adapters(tiny_models.xl_unet(), (tensors, 0.7))
    theirs = unet(x, t, context, added_cond_kwargs={**more, "image_embeds": [embeds(kind, 2)]}).sample
    plain = tiny_models.xl_unet()(x, t, context, added_cond_kwargs=more).sample
    path = files.write(tmp_path / "adapter.safetensors", tensors)
    given = {"x": x.numpy(), "timesteps": t.numpy(), "context": context.numpy(), "pooled": pooled.numpy()}
    assert error(sdxl.evaluate("unet", ip_adapters=[(path, PICTURE, 0.7)], **given), theirs) < TOLERANCE
    assert error(plain.numpy(), theirs) > 0.03


def test_a_file_of_pytorchs(seeing, randn, tmp_path):
    """With its two parts in dictionaries of their own, as the released ones have them."""
    tensors, parts = files.plus(), {}
    for name, array in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = torch.from_numpy(np.ascontiguousarray(array))
    torch.save(parts, tmp_path / "adapter.bin")
    files.write(tmp_path / "adapter.safetensors", tensors)
    given = {"x": randn(1, 4, 8, 8).numpy(), "timesteps": np.array([500.0]), "context": randn(1, 77, 32).numpy()}
    one, other = (
        seeing.evaluate("unet", ip_adapters=[(tmp_path / f"adapter.{ending}", PICTURE)], **given)
        for ending in ("bin", "safetensors")
    )
    np.testing.assert_array_equal(one, other)


@torch.no_grad()
def test_two_adapters(seeing, error, randn, tmp_path):
    x, context, t = randn(1, 4, 8, 8), randn(1, 77, 32), torch.tensor([500.0])
    one, two = files.base(), files.plus()
    unet = with_adapters(tiny_models.unet(), (one, 0.5), (two, 0.8))
    theirs = unet(x, t, context, added_cond_kwargs={"image_embeds": [embeds("base"), embeds("plus")]}).sample
    given = [
        (files.write(tmp_path / f"{number}.safetensors", tensors), PICTURE, strength)
        for number, (tensors, strength) in enumerate(((one, 0.5), (two, 0.8)))
    ]
    ours = seeing.evaluate("unet", ip_adapters=given, x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_pictures_led_away_from_nothing(seeing, same_pictures, tmp_path, kind):
    """With guidance: negative prompts see zeros (base) or a picture of zeros (Plus)."""
    tensors, noise = files.KINDS[kind](), sampling.noise((4, 8, 12), 21, rng="cpu")
    path = files.write(tmp_path / "adapter.safetensors", tensors)
    sizes = {"steps": 8, "width": 96, "height": 64, "cfg_scale": 4.0, "sampler": "euler", "scheduler": "discrete"}

    def made(strength):
        given = [IPAdapter(path, PICTURE, strength)]
        return seeing.generate("a red circle", negative_prompt="blurry", noise=noise, ip_adapters=given, **sizes).image

    found, plain = made(0.6), made(0)
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(found)).mean() > 2
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    processor = CLIPImageProcessor(size={"shortest_edge": files.SIDE}, crop_size={"height": files.SIDE, "width": files.SIDE})
    unet = with_adapters(tiny_models.unet(), (tensors, 0.6))
    parts = (tiny_models.vae(), None, None, unet, scheduler, None, processor, vision_encoder())
    theirs = StableDiffusionPipeline(*parts, requires_safety_checker=False)
    same_pictures(
        found,
        theirs,
        prompt_embeds=embed("a red circle"),
        negative_prompt_embeds=embed("blurry"),
        guidance_scale=4.0,
        num_inference_steps=8,
        width=96,
        height=64,
        latents=torch.from_numpy(noise[None]),
        ip_adapter_image=PICTURE,
    )
