"""FLUX.2's networks and pipeline against diffusers, f32."""

import json

import pytest
import tiny
import tiny_models
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from transformers import PreTrainedTokenizerFast

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _qwen_tokenizer

TOLERANCE = 1e-4
# the language model's own template, for one message without thinking
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("flux_2"), "flux.2")


def normed(net, latent):
    """Patches of 2x2 places, normed as the pipeline does."""
    patches = Flux2KleinPipeline._patchify_latents(latent)
    mean, variance = (values.view(1, -1, 1, 1) for values in (net.bn.running_mean, net.bn.running_var))
    return (patches - mean) / torch.sqrt(variance + net.config.batch_norm_eps)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
def test_autoencoder(folder, error, randn, blas):
    z, x = randn(2, 32, 8, 12), randn(1, 3, 64, 96).clamp(-1, 1)
    net = tiny_models.f2_vae()
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        decoded = ours.evaluate("vae.decoder", x=normed(net, z).numpy())
        encoded = ours.evaluate("vae.encoder", x=x.numpy())
    assert error(decoded, net.decode(z).sample) < TOLERANCE
    assert error(encoded[:, :128], normed(net, net.encode(x).latent_dist.mean)) < TOLERANCE


def their_direction(net, x, t, context, guidance=None):
    places = Flux2KleinPipeline._prepare_latent_ids(x)
    words = Flux2KleinPipeline._prepare_text_ids(context)
    out = net(Flux2KleinPipeline._pack_latents(x), context, t / 1000, places, words, guidance).sample
    return out.transpose(1, 2).reshape(x.shape)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("guided", [True, False])
def test_transformer(tmp_path, error, randn, blas, guided):
    x, context, t = randn(2, 128, 6, 10), randn(2, 41, 96), torch.tensor([30.0, 870.0])
    guidance = torch.tensor([4.0, 2.5]) if guided else None
    net = tiny_models.f2_transformer(guided)
    folder = tiny.write_family(tmp_path, "flux.2")
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    tiny.write_safetensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", state)
    inputs = {"x": x, "timesteps": t, "context": context, **({"guidance": guidance} if guided else {})}
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        found = ours.evaluate("flux_2", **{name: value.numpy() for name, value in inputs.items()})
    assert error(found, their_direction(net, x, t, context, guidance)) < TOLERANCE


def theirs(**more):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_qwen_tokenizer.shipped(), pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    parts = (scheduler, tiny_models.f2_vae(), tiny_models.f2_text_encoder(), tokenizer, tiny_models.f2_transformer())
    return Flux2KleinPipeline(*parts, **more)


@pytest.mark.parametrize("text", ["", "a red circle", "a red circle left of a blue square, " * 12])
@pytest.mark.parametrize(("scale", "steps"), [(1.0, 4), (3.0, 6)])
def test_pictures_equal_diffusers(folder, same_pictures, text, scale, steps):
    """Texts are padded, and the network sees what the encoder makes of padding."""
    noise = sampling.noise((128, 4, 6), 21, rng="cpu")
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate(text, noise=noise, steps=steps, width=96, height=64, progress=False, cfg_scale=scale)
    sizes = {"width": 96, "height": 64, "num_inference_steps": steps}
    same_pictures(found.images[0], theirs(), prompt=text, guidance_scale=scale, latents=torch.from_numpy(noise)[None], **sizes)


def test_a_distilled_model_has_its_own_defaults(tmp_path, folder):
    with sdcpp_py.Pipeline(folder) as base:
        assert (base.default("steps"), base.default("cfg_scale")) == (50, 4.0)
    other = tiny.write_family(tmp_path, "flux.2")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps({**index, "is_distilled": True}))
    with sdcpp_py.Pipeline(other) as klein:
        assert (klein.default("steps"), klein.default("cfg_scale")) == (4, 1.0)
