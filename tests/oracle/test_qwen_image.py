"""Qwen-Image's networks and pipeline against diffusers, f32."""

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline
from transformers import PreTrainedTokenizerFast

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _qwen_tokenizer

TOLERANCE = 1e-4
SCHEDULE = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("qwen_image"), "qwen-image")


def their_direction(net, x, t, context, mask=None):
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    packed = QwenImagePipeline._pack_latents(x, *x.shape)
    out = net(packed, context, mask, t / 1000, [[(1, rows, columns)]] * len(x)).sample
    return QwenImagePipeline._unpack_latents(out, 8 * x.shape[2], 8 * x.shape[3], 8)[:, :, 0]


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (10, 18)])
def test_transformer(folder, error, randn, blas, size):
    """Also with sides that are not even numbers of patches, whose middle is not a place."""
    x, context, t = randn(2, 16, *size), randn(2, 41, 40), torch.tensor([30.0, 870.0])
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        found = ours.evaluate("qwen_image", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(found, their_direction(tiny_models.q_transformer(), x, t, context)) < TOLERANCE


def theirs():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_qwen_tokenizer.shipped(), pad_token="<|endoftext|>")
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULE)
    return QwenImagePipeline(
        scheduler, tiny_models.wan_vae(), tiny_models.q_text_encoder(), tokenizer, tiny_models.q_transformer()
    )


@pytest.mark.parametrize("text", ["a red circle", "a red circle left of a blue square, " * 12])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_pictures_equal_diffusers(folder, same_pictures, text, scale):
    """An empty negative prompt is a space."""
    noise = sampling.noise((16, 8, 12), 21, rng="cpu")
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate(text, noise=noise, steps=5, width=96, height=64, progress=False, cfg_scale=scale)
    packed = QwenImagePipeline._pack_latents(torch.from_numpy(noise)[None], 1, 16, 8, 12)
    sizes = {"width": 96, "height": 64, "num_inference_steps": 5}
    guided = {"negative_prompt": " ", "true_cfg_scale": scale}
    same_pictures(found.images[0], theirs(), prompt=text, latents=packed, **guided, **sizes)


def test_prompts_of_different_lengths_go_together(folder):
    with sdcpp_py.Pipeline(folder) as ours:
        texts = ["a red circle", "a blue square with a long description of everything else in it"]
        together = ours.generate(texts, steps=2, width=64, height=64, seed=[1, 2], cfg_scale=3, progress=False).latents
        alone = [
            ours.generate(text, steps=2, width=64, height=64, seed=seed, cfg_scale=3, progress=False).latents[0]
            for seed, text in enumerate(texts, 1)
        ]
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))
