"""Every network against diffusers and transformers, f32."""

import tiny_models
import torch

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
    from sdcpp_py import prompt

    ids = torch.tensor([prompt.tokenize("a red circle").ids])
    net = tiny_models.text_encoder()
    hidden = net(ids, output_hidden_states=True).hidden_states[-2]
    final = net.text_model.final_layer_norm if hasattr(net, "text_model") else net.final_layer_norm
    skipped = pipeline.prompt_states("a red circle", clip_skip=2)
    assert error(skipped, final(hidden)) < TOLERANCE
