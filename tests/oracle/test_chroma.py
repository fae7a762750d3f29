"""Chroma's transformer and pipeline against diffusers, f32."""

import pytest
import tiny
import tiny_models
import torch
from diffusers import ChromaPipeline, FlowMatchEulerDiscreteScheduler

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _t5_tokenizer

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("chroma"), "chroma")


def their_direction(net, x, t, context, mask=None):
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    packed = ChromaPipeline._pack_latents(x, *x.shape)
    places = ChromaPipeline._prepare_latent_image_ids(len(x), rows, columns, "cpu", torch.float32)
    out = net(packed, context, t / 1000, places, torch.zeros(context.shape[1], 3), mask).sample
    return ChromaPipeline._unpack_latents(out, 8 * x.shape[2], 8 * x.shape[3], 8)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
def test_transformer(folder, error, randn, blas):
    x, context, t = randn(2, 16, 12, 20), randn(2, 41, 40), torch.tensor([30.0, 870.0])
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        assert ours.family == "chroma"
        found = ours.evaluate("flux", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(found, their_direction(tiny_models.c_transformer(), x, t, context)) < TOLERANCE


@torch.no_grad()
def their_states(text):
    """T5 does not see its padding; the network sees one token of it."""
    ids = _t5_tokenizer.shipped().encode(text).ids
    seen = torch.tensor([[1] * len(ids) + [0] * (512 - len(ids))])
    states = tiny_models.f_text_encoder_2()(torch.tensor([ids + [0] * (512 - len(ids))]), attention_mask=seen)
    return states.last_hidden_state, torch.arange(512)[None] <= len(ids)


def test_states(folder, error):
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.prompt_states("a red circle")
    states, seen = their_states("a red circle")
    assert error(found, states[:, seen[0]]) < TOLERANCE


@pytest.mark.parametrize("text", ["", "a red circle", "a red circle left of a blue square, " * 12])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_pictures_equal_diffusers(folder, same_pictures, text, scale):
    """With masks of truth values, as the model was trained. diffusers' own are numbers, which are added to scores."""
    noise = sampling.noise((16, 8, 12), 21, rng="cpu")
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate(
            text, negative_prompt="blurry", noise=noise, steps=5, width=96, height=64, progress=False, cfg_scale=scale
        )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    theirs = ChromaPipeline(scheduler, tiny_models.z_vae(), None, None, tiny_models.c_transformer())
    (states, seen), (free, free_seen) = their_states(text), their_states("blurry")
    same_pictures(
        found.images[0],
        theirs,
        prompt_embeds=states,
        prompt_attention_mask=seen,
        negative_prompt_embeds=free,
        negative_prompt_attention_mask=free_seen,
        guidance_scale=scale,
        latents=ChromaPipeline._pack_latents(torch.from_numpy(noise)[None], 1, 16, 8, 12),
        num_inference_steps=5,
        height=64,
        width=96,
    )
