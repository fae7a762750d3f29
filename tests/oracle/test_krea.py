"""Krea 2's networks and pipeline, and the autoencoder that it shares with Wan and Qwen-Image, against diffusers, f32."""

import json

import pytest
import tiny
import tiny_models
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Krea2Pipeline
from transformers import PreTrainedTokenizerFast

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _qwen_tokenizer

TOLERANCE = 1e-4
SCHEDULE = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "max_image_seq_len": 6400}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("krea"), "krea-2")


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
def test_autoencoder(folder, error, randn, blas):
    z, x = 2 * randn(1, 16, 8, 12), randn(1, 3, 64, 96).clamp(-1, 1)
    net = tiny_models.wan_vae()
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        decoded = ours.evaluate("wan_vae.decoder", x=z.numpy())
        encoded = ours.evaluate("wan_vae.encoder", x=x.numpy())
    assert error(decoded.clip(-1, 1), net.decode(z[:, :, None]).sample) < TOLERANCE
    assert error(encoded, net.encode(x[:, :, None]).latent_dist.parameters) < TOLERANCE


def their_direction(net, x, t, context, mask=None):
    """diffusers' transformer on latents; it counts timesteps from 0 to 1."""
    n, c, h, w = x.shape
    packed = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)
    places = Krea2Pipeline.prepare_position_ids(context.shape[1], h // 2, w // 2, "cpu")
    out = net(packed, context.unflatten(-1, (12, 24)), t / 1000, places, encoder_attention_mask=mask).sample
    return out.view(n, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_transformer(folder, error, randn, blas, size):
    x, context, t = randn(2, 16, *size), randn(2, 41, 12 * 24), torch.tensor([30.0, 870.0])
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        found = ours.evaluate("krea", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(found, their_direction(tiny_models.k_transformer(), x, t, context)) < TOLERANCE


class SeeingModel(torch.nn.Module):
    """The language part with the interface of Qwen3-VL, whose positions have three equal axes for text."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.language_model = tiny_models.k_text_encoder()

    def forward(self, input_ids, attention_mask, position_ids, output_hidden_states):
        return self.language_model(
            input_ids, attention_mask=attention_mask, position_ids=position_ids[0], output_hidden_states=output_hidden_states
        )


def theirs(**more):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_qwen_tokenizer.shipped(), pad_token="<|endoftext|>")
    parts = (FlowMatchEulerDiscreteScheduler(**SCHEDULE), tiny_models.wan_vae(), None, tokenizer, tiny_models.k_transformer())
    made = Krea2Pipeline(*parts, **more)
    made.text_encoder = SeeingModel()
    return made


def same(ours, same_pictures, text, their, scale, width=96, height=64, **more):
    noise = sampling.noise((16, height // 8, width // 8), 21, rng="cpu")
    found = ours.generate(text, noise=noise, steps=5, width=width, height=height, progress=False, cfg_scale=1 + scale, **more)
    packed = their._pack_latents(torch.from_numpy(noise)[None], 1, 16, height // 8, width // 8)
    negative = more.get("negative_prompt")
    sizes = {"width": width, "height": height, "num_inference_steps": 5}
    same_pictures(found.images[0], their, prompt=text, negative_prompt=negative, guidance_scale=scale, latents=packed, **sizes)


@pytest.mark.parametrize("text", ["", "a red circle", "a red circle left of a blue square, " * 12])
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_pictures_equal_diffusers(folder, same_pictures, text, scale):
    """Prompts of another length than the negative one are masked; diffusers pads in the middle, which changes nothing."""
    with sdcpp_py.Pipeline(folder) as ours:
        same(ours, same_pictures, text, theirs(), scale, negative_prompt="blurry")


def test_turbo_has_a_shift_of_its_own(tmp_path, same_pictures):
    folder = tiny.write_family(tmp_path, "krea-2")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "is_distilled": True}))
    with sdcpp_py.Pipeline(folder) as ours:
        assert (ours.default("steps"), ours.default("cfg_scale")) == (8, 1.0)
        same(ours, same_pictures, "a red circle", theirs(is_distilled=True), 0.0, width=128, height=128)


@torch.no_grad()
def test_encoded_pictures_equal_diffusers(folder, error, randn):
    """The latent space has a mean and a deviation for each channel."""
    pixels = ((randn(64, 96, 3).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    picture = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
    net = tiny_models.wan_vae()
    mean, deviation = (torch.tensor(values).view(1, 16, 1, 1) for values in (net.config.latents_mean, net.config.latents_std))
    latent = net.encode(picture[:, :, None]).latent_dist.mean[:, :, 0]
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.encode(pixels.numpy())
    assert error(found, (latent - mean) / deviation) < TOLERANCE
