"""Every network against diffusers and transformers, f32."""

import pytest
import tiny
import tiny_models
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

import sdcpp_py

TOLERANCE = 1e-4


@torch.no_grad()
def test_text_encoder(pipeline, error):
    ids = torch.randint(0, 49408, (2, 77), generator=torch.Generator().manual_seed(1))
    assert error(pipeline.evaluate("clip_l", tokens=ids.numpy()), tiny_models.text_encoder()(ids).last_hidden_state) < TOLERANCE


@torch.no_grad()
def test_unet_on_a_batch_with_different_timesteps_and_a_wide_picture(pipeline, error, randn):
    x, context, t = randn(2, 4, 16, 12), randn(2, 77, 32), torch.tensor([3.0, 870.0])
    ours = pipeline.evaluate("unet", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(ours, tiny_models.unet()(x, t, context).sample) < TOLERANCE


@torch.no_grad()
def test_unet_with_two_chunks_of_context(pipeline, error, randn):
    x, context, t = randn(1, 4, 8, 8), randn(1, 154, 32), torch.tensor([500.0])
    ours = pipeline.evaluate("unet", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(ours, tiny_models.unet()(x, t, context).sample) < TOLERANCE


@torch.no_grad()
def test_vae_decoder(pipeline, error, randn):
    z = randn(1, 4, 8, 12)
    assert error(pipeline.evaluate("vae.decoder", x=z.numpy()), tiny_models.vae().decode(z).sample) < TOLERANCE


@torch.no_grad()
def test_vae_encoder(pipeline, error, randn):
    x = randn(1, 3, 64, 96).clamp(-1, 1)
    assert error(pipeline.evaluate("vae.encoder", x=x.numpy()), tiny_models.vae().encode(x).latent_dist.parameters) < TOLERANCE


@torch.no_grad()
def test_taesd(pipeline, error, randn):
    z, x = randn(1, 4, 8, 12), randn(1, 3, 64, 96).clamp(-1, 1)
    net = tiny_models.taesd()
    assert error(pipeline.evaluate("taesd.decoder", x=z.numpy()) * 2 - 1, net.decode(z).sample) < TOLERANCE
    assert error(pipeline.evaluate("taesd.encoder", x=x.numpy() / 2 + 0.5), net.encode(x).latents) < TOLERANCE


@torch.no_grad()
def test_clip_skip_leaves_out_the_last_layer(pipeline, error):
    from sdcpp_py.text import prompt

    ids = torch.tensor([prompt.tokenize("a red circle").ids])
    net = tiny_models.text_encoder()
    hidden = net(ids, output_hidden_states=True).hidden_states[-2]
    final = net.text_model.final_layer_norm if hasattr(net, "text_model") else net.final_layer_norm
    skipped = pipeline.prompt_states("a red circle", clip_skip=2)
    assert error(skipped, final(hidden)) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("linear", [False, True])
def test_a_unet_with_all_of_stable_diffusions_levels(tmp_path, error, randn, linear):
    """Two blocks a level, attention on three of four levels, as in Stable Diffusion 1.5; with linear projections as in 2.x."""
    torch.manual_seed(5)
    net = UNet2DConditionModel(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=24,
        use_linear_projection=linear,
    ).eval()
    path = tiny.write_safetensors(tmp_path / "unet.safetensors", {k: v.numpy() for k, v in net.state_dict().items()})
    x, context, t = randn(1, 4, 16, 24), randn(1, 77, 24), torch.tensor([321.0])
    with sdcpp_py.Pipeline(path) as ours:
        found = ours.evaluate("unet", x=x.numpy(), timesteps=t.numpy(), context=context.numpy())
    assert error(found, net(x, t, context).sample) < TOLERANCE


@torch.no_grad()
def test_a_vae_with_stable_diffusions_depth(tmp_path, error, randn):
    torch.manual_seed(6)
    net = AutoencoderKL(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    ).eval()
    path = tiny.write_safetensors(tmp_path / "vae.safetensors", {k: v.numpy() for k, v in net.state_dict().items()})
    z, x = randn(1, 4, 6, 10), randn(1, 3, 48, 80).clamp(-1, 1)
    with sdcpp_py.Pipeline(path) as ours:
        assert error(ours.evaluate("vae.decoder", x=z.numpy()), net.decode(z).sample) < TOLERANCE
        assert error(ours.evaluate("vae.encoder", x=x.numpy()), net.encode(x).latent_dist.parameters) < TOLERANCE
