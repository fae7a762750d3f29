"""SDXL's, Z-Image's and FLUX.1's networks and pipelines against diffusers and transformers, f32."""

import json

import pytest
import tiny
import tiny_models
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
)
from tiny import open_clip

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import _qwen_tokenizer, _t5_tokenizer, prompt

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path_factory.mktemp("sdxl"), "sdxl")) as made:
        yield made


@pytest.fixture(scope="module")
def z_image(tmp_path_factory):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path_factory.mktemp("z"), "z-image")) as made:
        yield made


@torch.no_grad()
def test_clip_g(sdxl, error):
    ids = torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(1))
    theirs = tiny_models.xl_text_encoder_2()(ids).last_hidden_state
    assert error(sdxl.evaluate("clip_g", tokens=ids.numpy()), theirs) < TOLERANCE


@torch.no_grad()
def test_xl_unet(sdxl, error, randn):
    x, context, pooled, t = randn(2, 4, 16, 12), randn(2, 77, 64), randn(2, 32), torch.tensor([3.0, 870.0])
    ours = sdxl.evaluate("unet", x=x.numpy(), timesteps=t.numpy(), context=context.numpy(), pooled=pooled.numpy())
    sizes = torch.tensor([[128.0, 96, 0, 0, 128, 96]] * 2)
    theirs = tiny_models.xl_unet()(x, t, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
    assert error(ours, theirs) < TOLERANCE


@torch.no_grad()
def xl_states(text, padding_2=0):
    first = torch.tensor([prompt.tokenize(text).ids])
    second = torch.tensor([prompt.tokenize(text, padding=padding_2).ids])
    one = tiny_models.text_encoder()(first, output_hidden_states=True).hidden_states[-2]
    two = tiny_models.xl_text_encoder_2()(second, output_hidden_states=True)
    return torch.cat([one, two.hidden_states[-2]], -1), two.text_embeds


def test_xl_states_are_those_before_the_last_layer(sdxl, error):
    text = "a red circle left of a blue square"
    assert error(sdxl.prompt_states(text), xl_states(text)[0]) < TOLERANCE


@pytest.mark.parametrize("negative", ["blurry", ""])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sdxl_pictures_equal_diffusers(sdxl, same_pictures, guidance, negative):
    noise = sampling.noise((4, 8, 12), 21, rng="cpu")
    vae = tiny_models.vae()
    vae.register_to_config(scaling_factor=0.13025)  # the family's, which counts if the config has none
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    theirs = StableDiffusionXLPipeline(vae, None, None, None, None, tiny_models.xl_unet(), scheduler, add_watermarker=False)
    states, pooled = xl_states("a red circle")
    if negative:
        free, free_pooled = xl_states(negative)
    else:  # diffusers takes zeros if there is no negative prompt
        free, free_pooled = torch.zeros_like(states), torch.zeros_like(pooled)
    found = sdxl.generate(
        "a red circle",
        negative_prompt=negative,
        cfg_scale=guidance,
        noise=noise,
        steps=8,
        width=96,
        height=64,
        sampler="euler",
    ).images[0]
    same_pictures(
        found,
        theirs,
        prompt_embeds=states,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=free,
        negative_pooled_prompt_embeds=free_pooled,
        guidance_scale=guidance,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=8,
        height=64,
        width=96,
    )


@torch.no_grad()
def test_the_refiners_shape(tmp_path, error, randn):
    torch.manual_seed(5)
    net = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=2,
        attention_head_dim=[1, 1],
        cross_attention_dim=32,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=1280 + 5 * 256,
    ).eval()
    path = tiny.write_safetensors(tmp_path / "unet.safetensors", {k: v.numpy() for k, v in net.state_dict().items()})
    x, context, pooled, t = randn(1, 4, 8, 8), randn(1, 77, 32), randn(1, 1280), torch.tensor([300.0])
    sizes = torch.tensor([[64.0, 64, 0, 0, 6.0]])
    theirs = net(x, t, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
    with sdcpp_py.Pipeline(path) as ours:
        assert ours.family == "sdxl-refiner"
        found = ours.evaluate("unet", x=x.numpy(), timesteps=t.numpy(), context=context.numpy(), pooled=pooled.numpy())
    assert error(found, theirs) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
def test_language_model(tmp_path, error, blas):
    ids = torch.randint(0, 151643, (2, 41), generator=torch.Generator().manual_seed(1))
    net = tiny_models.z_text_encoder()
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "z-image"), blas=blas) as ours:
        assert error(ours.evaluate("llm", tokens=ids.numpy()), net(ids).last_hidden_state) < TOLERANCE
        ids = torch.tensor([chat_tokens("a red circle")])
        states = ours.prompt_states("a red circle")
    assert error(states, net(ids, output_hidden_states=True).hidden_states[-2]) < TOLERANCE


def chat_tokens(text):
    return _qwen_tokenizer.shipped().encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n").ids


def their_direction(net, x, t, contexts):
    """diffusers' transformer on a batch; it predicts the other way round, from timesteps that run the other way."""
    out = net(list(x.unsqueeze(2)), (1000 - t) / 1000, contexts).sample
    return -torch.stack(out).squeeze(2)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_z_image_transformer(tmp_path, error, randn, blas, size):
    x, context, t = randn(2, 16, *size), randn(2, 41, 32), torch.tensor([30.0, 870.0])
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "z-image"), blas=blas) as ours:
        found = ours.evaluate("z_image", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(found, their_direction(tiny_models.z_transformer(), x, t, list(context))) < TOLERANCE


@torch.no_grad()
def z_states(text):
    return tiny_models.z_text_encoder()(torch.tensor([chat_tokens(text)]), output_hidden_states=True).hidden_states[-2][0]


def their_z_image(**schedule):
    scheduler = FlowMatchEulerDiscreteScheduler(**schedule)
    return ZImagePipeline(scheduler, tiny_models.z_vae(), None, None, tiny_models.z_transformer())


@pytest.mark.parametrize(
    "guidance, text", [(0.0, "a red circle"), (3.0, "a red circle"), (3.0, "a red circle left of a blue square " * 4)]
)
def test_z_image_pictures_equal_diffusers(z_image, same_pictures, guidance, text):
    """Also with a prompt so much longer than the negative one that the two are masked differently."""
    noise = sampling.noise((16, 8, 12), 21, rng="cpu")
    found = z_image.generate(
        text, negative_prompt="blurry", cfg_scale=1 + guidance, noise=noise, steps=6, width=96, height=64
    ).images[0]
    same_pictures(
        found,
        their_z_image(shift=3.0),
        prompt_embeds=[z_states(text)],
        negative_prompt_embeds=[z_states("blurry")],
        guidance_scale=guidance,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=6,
        height=64,
        width=96,
    )


def test_a_shift_that_follows_the_pictures_size_equals_diffusers(tmp_path, same_pictures):
    noise = sampling.noise((16, 16, 24), 24, rng="cpu")
    dynamic = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    folder = tiny.write_family(tmp_path, "z-image")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dynamic))
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate("a red circle", noise=noise, steps=6, width=192, height=128, progress=False).images[0]
    same_pictures(
        found,
        their_z_image(**dynamic),
        prompt_embeds=[z_states("a red circle")],
        negative_prompt_embeds=[],
        guidance_scale=0.0,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=6,
        height=128,
        width=192,
    )


@torch.no_grad()
def test_stable_diffusion_2_in_its_original_naming(tmp_path, error):
    """open_clip's text model: all layers are in the file, the states are the normed ones before the last."""
    net = tiny_models.xl_text_encoder_2()
    tensors = open_clip({name: value.numpy() for name, value in net.state_dict().items() if value.is_floating_point()})
    tensors = {f"cond_stage_model.model.{name}": array for name, array in tensors.items()}
    unet = tiny.write_safetensors(tmp_path / "unet.safetensors", tiny.part("unet"))
    for entry in sdcpp_py.summarize(unet).tensors:
        tensors["model.diffusion_model." + entry.canonical.split(".", 1)[1]] = tiny.part("unet")[entry.name]
    config = {"unet": tiny.configs()["unet"], "text_encoder": tiny.configs()["xl_text_encoder_2"]}
    path = tiny.write_safetensors(tmp_path / "sd2.safetensors", tensors, {"sdcpp.config": json.dumps(config)})
    ids = torch.tensor([prompt.tokenize("a red circle", padding=0).ids])
    hidden = net(ids, output_hidden_states=True).hidden_states[-2]
    with sdcpp_py.Pipeline(path) as ours:
        assert ours.family == "sd2" and ours.default("clip_skip") == 2
        states = ours.prompt_states("a red circle")
    final = net.text_model.final_layer_norm if hasattr(net, "text_model") else net.final_layer_norm
    assert error(states, final(hidden)) < TOLERANCE


@torch.no_grad()
def test_sixteen_channel_vae(z_image, error, randn):
    z, x = randn(1, 16, 8, 12), randn(1, 3, 64, 96).clamp(-1, 1)
    net = tiny_models.z_vae()
    assert error(z_image.evaluate("vae.decoder", x=z.numpy()), net.decode(z).sample) < TOLERANCE
    assert error(z_image.evaluate("vae.encoder", x=x.numpy()), net.encode(x).latent_dist.parameters) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("tokens", [7, 300])
def test_t5(tmp_path, error, blas, tokens):
    """Also with distances past the largest class."""
    ids = torch.randint(0, 32100, (2, tokens), generator=torch.Generator().manual_seed(1))
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "flux.1"), blas=blas) as ours:
        found = ours.evaluate("t5", tokens=ids.numpy())
    assert error(found, tiny_models.f_text_encoder_2()(ids).last_hidden_state) < TOLERANCE


def their_flux(net, x, t, context, pooled, guidance):
    """diffusers' transformer on latents; it counts timesteps from 0 to 1."""
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    packed = FluxPipeline._pack_latents(x, *x.shape)
    places = FluxPipeline._prepare_latent_image_ids(len(x), rows, columns, "cpu", torch.float32)
    out = net(packed, context, pooled, t / 1000, places, torch.zeros(context.shape[1], 3), guidance).sample
    return FluxPipeline._unpack_latents(out, 8 * x.shape[2], 8 * x.shape[3], 8)


@torch.no_grad()
@pytest.mark.parametrize("blas", [True, False])
@pytest.mark.parametrize("guided", [True, False])
def test_flux_transformer(tmp_path, error, randn, blas, guided):
    x, context, pooled, t = randn(2, 16, 12, 20), randn(2, 41, 40), randn(2, 32), torch.tensor([30.0, 870.0])
    guidance = torch.tensor([3.5, 2.0]) if guided else None
    net = tiny_models.f_transformer(guided)
    folder = tiny.write_family(tmp_path, "flux.1")
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    tiny.write_safetensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", state)
    inputs = {"x": x, "timesteps": t, "context": context, "pooled": pooled, **({"guidance": guidance} if guided else {})}
    with sdcpp_py.Pipeline(folder, blas=blas) as ours:
        found = ours.evaluate("flux", **{name: value.numpy() for name, value in inputs.items()})
    assert error(found, their_flux(net, x, t, context, pooled, guidance)) < TOLERANCE


@torch.no_grad()
def flux_states(text):
    ids = _t5_tokenizer.shipped().encode(text).ids
    t5 = tiny_models.f_text_encoder_2()(torch.tensor([ids + [0] * (512 - len(ids))])).last_hidden_state
    return t5, tiny_models.text_encoder()(torch.tensor([prompt.tokenize(text).ids[:77]])).pooler_output


@pytest.mark.parametrize("text", ["", "a red circle", "a red circle left of a blue square, " * 12])
@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 64)])
def test_flux_pictures_equal_diffusers(tmp_path, same_pictures, text, width, height):
    noise = sampling.noise((16, height // 8, width // 8), 21, rng="cpu")
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "flux.1")) as ours:
        found = ours.generate(text, noise=noise, steps=5, width=width, height=height, guidance=2.5, progress=False).images[0]
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    theirs = FluxPipeline(scheduler, tiny_models.z_vae(), None, None, None, None, tiny_models.f_transformer())
    states, pooled = flux_states(text)
    packed = FluxPipeline._pack_latents(torch.from_numpy(noise)[None], 1, 16, height // 8, width // 8)
    same_pictures(
        found,
        theirs,
        prompt_embeds=states,
        pooled_prompt_embeds=pooled,
        guidance_scale=2.5,
        latents=packed,
        num_inference_steps=5,
        height=height,
        width=width,
    )


def test_flux_with_guidance_from_a_negative_prompt_equals_diffusers(tmp_path, same_pictures):
    noise = sampling.noise((16, 8, 8), 22, rng="cpu")
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "flux.1")) as ours:
        found = ours.generate(
            "a red circle", negative_prompt="blurry", cfg_scale=2.0, noise=noise, steps=4, width=64, height=64, progress=False
        ).images[0]
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    theirs = FluxPipeline(scheduler, tiny_models.z_vae(), None, None, None, None, tiny_models.f_transformer())
    (states, pooled), (free, free_pooled) = flux_states("a red circle"), flux_states("blurry")
    same_pictures(
        found,
        theirs,
        prompt_embeds=states,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=free,
        negative_pooled_prompt_embeds=free_pooled,
        true_cfg_scale=2.0,
        guidance_scale=3.5,
        latents=FluxPipeline._pack_latents(torch.from_numpy(noise)[None], 1, 16, 8, 8),
        num_inference_steps=4,
        height=64,
        width=64,
    )
