"""Stable Diffusion 3's networks and pipeline against diffusers, f32."""

import pytest
import tiny
import tiny_models
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _t5_tokenizer, prompt

TOLERANCE = 1e-4


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("dual", [True, False])
def test_transformer(tmp_path, error, randn, blas, dual):
    x, context, pooled, t = randn(2, 16, 12, 20), randn(2, 41, 72), randn(2, 64), torch.tensor([30.0, 870.0])
    net = tiny_models.s_transformer(dual)
    folder = tiny.write_family(tmp_path, "sd3")
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    tiny.write_safetensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", state)
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        inputs = {"x": x, "timesteps": t, "context": context, "pooled": pooled}
        found = ours.evaluate("sd3", **{name: value.numpy() for name, value in inputs.items()})
    assert error(found, net(x, context, pooled, t).sample) < TOLERANCE


@torch.no_grad()
def their_states(text):
    first = torch.tensor([prompt.tokenize(text).ids])
    second = torch.tensor([prompt.tokenize(text, padding=0).ids])
    one = tiny_models.s_text_encoder()(first, output_hidden_states=True)
    two = tiny_models.xl_text_encoder_2()(second, output_hidden_states=True)
    clip = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1)
    ids = _t5_tokenizer.shipped().encode(text).ids
    t5 = tiny_models.s_text_encoder_3()(torch.tensor([ids + [0] * (256 - len(ids))])).last_hidden_state
    clip = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return torch.cat([clip, t5], 1), torch.cat([one.text_embeds, two.text_embeds], -1)


@pytest.mark.parametrize("text", ["", "a red circle"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_pictures_equal_diffusers(tmp_path, same_pictures, text, scale):
    """With diffusers' own levels of noise, which end between those of the schedules "discrete" and "simple"."""
    noise = sampling.noise((16, 8, 12), 21, rng="cpu")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(5)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "sd3")) as ours:
        assert (ours.family, ours.default("steps"), ours.default("cfg_scale")) == ("sd3", 28, 4.5)
        settings = {"noise": noise, "width": 96, "height": 64, "sigmas": levels, "steps": 5, "cfg_scale": scale}
        found = ours.generate(text, negative_prompt="blurry", progress=False, **settings)
    parts = (tiny_models.s_transformer(), scheduler, tiny_models.s_vae(), None, None, None, None, None, None)
    (states, pooled), (free, free_pooled) = their_states(text), their_states("blurry")
    same_pictures(
        found.images[0],
        StableDiffusion3Pipeline(*parts),
        prompt_embeds=states,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=free,
        negative_pooled_prompt_embeds=free_pooled,
        guidance_scale=scale,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=5,
        height=64,
        width=96,
    )
