"""Checkpoints that see more than the latent, against diffusers' pipelines from the same noise."""

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from test_pipeline import embed

import sdcpp_py
from sdcpp_py import sampling


def wide_unet(channels):
    net = tiny_models.unet()
    wide = UNet2DConditionModel.from_config(net.config, in_channels=channels)
    state = net.state_dict()
    state["conv_in.weight"] = torch.from_numpy(tiny.widened(state["conv_in.weight"].numpy(), channels))
    wide.load_state_dict(state)
    return wide.eval()


class Mean:
    """A latent distribution whose sample is its mean."""

    def __init__(self, distribution):
        self.distribution = distribution

    def sample(self, generator=None):
        return self.distribution.mode()

    def mode(self):
        return self.distribution.mode()


def mean_vae():
    vae = tiny_models.vae()
    encode = vae.encode

    def encoded(*arguments, **keywords):
        out = encode(*arguments, **keywords)
        out.latent_dist = Mean(out.latent_dist)
        return out

    vae.encode = encoded
    return vae


def picture():
    pixels = np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)
    return Image.fromarray(pixels).resize((96, 64), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("masked", [True, False])
def test_checkpoints_for_inpainting(tmp_path, same_pictures, masked):
    noise = sampling.noise((4, 8, 12), 21, rng="cpu")
    mask = Image.new("L", (96, 64))
    mask.paste(255, (32, 16, 80, 48) if masked else (0, 0, 96, 64))
    own = {"init_image": picture(), "mask_image": mask, "mask_blur": 0.0, "paste_back": False, "strength": 1.0} if masked else {}
    with sdcpp_py.Pipeline(tiny.write_wide_folder(tmp_path, 9)) as ours:
        found = ours.generate(
            "a red circle",
            negative_prompt="blurry",
            cfg_scale=4.0,
            noise=noise,
            steps=8,
            width=96,
            height=64,
            sampler="euler",
            **own,
        ).images[0]
        under = ours.encode(picture()) if masked else 0
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    scheduler.set_timesteps(8)
    # theirs begins from noise alone at a strength of 1, ours from the picture under it
    begun = ((noise * float(scheduler.sigmas[0]) + under) / float(scheduler.init_noise_sigma)).astype(np.float32)
    parts = (mean_vae(), None, None, wide_unet(9), scheduler, None, None)
    grey = Image.new("RGB", (96, 64), (128, 128, 128))
    same_pictures(
        found,
        StableDiffusionInpaintPipeline(*parts, requires_safety_checker=False),
        image=picture() if masked else grey,
        mask_image=mask,
        prompt_embeds=embed("a red circle"),
        negative_prompt_embeds=embed("blurry"),
        guidance_scale=4.0,
        latents=torch.from_numpy(begun)[None],
        num_inference_steps=8,
        height=64,
        width=96,
        strength=1.0,
    )


@pytest.mark.parametrize(("text", "image"), [(7.5, 1.5), (3.0, 3.0), (4.0, 1.0)])
def test_checkpoints_that_edit(tmp_path, same_pictures, text, image):
    noise = sampling.noise((4, 8, 12), 22, rng="cpu")
    with sdcpp_py.Pipeline(tiny.write_wide_folder(tmp_path, 8)) as ours:
        found = ours.generate(
            "make it red",
            negative_prompt="blurry",
            init_image=picture(),
            cfg_scale=text,
            image_cfg_scale=image,
            noise=noise,
            steps=8,
            sampler="euler",
        ).images[0]
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    parts = (tiny_models.vae(), None, None, wide_unet(8), scheduler, None, None)
    same_pictures(
        found,
        StableDiffusionInstructPix2PixPipeline(*parts, requires_safety_checker=False),
        image=picture(),
        prompt_embeds=embed("make it red"),
        negative_prompt_embeds=embed("blurry"),
        guidance_scale=text,
        image_guidance_scale=image,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=8,
    )


@pytest.mark.parametrize("strength", [0.6, 0.9])
def test_checkpoints_for_depths(tmp_path, same_pictures, monkeypatch, strength):
    noise = sampling.noise((4, 8, 12), 23, rng="cpu")
    depth = np.random.default_rng(5).random((8, 12)).astype(np.float32)
    steps = 10
    with sdcpp_py.Pipeline(tiny.write_wide_folder(tmp_path, 5)) as ours:
        found = ours.generate(
            "a red circle",
            negative_prompt="blurry",
            init_image=picture(),
            depth_image=depth,
            cfg_scale=4.0,
            noise=noise,
            steps=steps,
            strength=strength - 0.05,  # theirs runs int(strength * steps), ours one more
            sampler="euler",
        ).images[0]
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    kind = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_depth2img.randn_tensor"
    monkeypatch.setattr(kind, lambda *_, **__: torch.from_numpy(noise)[None])
    theirs = StableDiffusionDepth2ImgPipeline(mean_vae(), None, None, wide_unet(5), scheduler, None, None)
    same_pictures(
        found,
        theirs,
        image=picture(),
        depth_map=torch.from_numpy(depth)[None],
        prompt_embeds=embed("a red circle"),
        negative_prompt_embeds=embed("blurry"),
        guidance_scale=4.0,
        strength=strength,
        num_inference_steps=steps,
    )
