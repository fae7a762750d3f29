"""The whole pipeline against diffusers' from the same noise."""

import json

import numpy as np
import pytest
import tiny_models
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from tiny import NOISE, write_folder

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.text import prompt


@torch.no_grad()
def embed(text):
    return tiny_models.text_encoder()(torch.tensor([prompt.tokenize(text).ids])).last_hidden_state


def their_pipeline(scheduler=None, **schedule):
    scheduler = scheduler or EulerDiscreteScheduler(**NOISE, **schedule)
    parts = (tiny_models.vae(), None, None, tiny_models.unet(), scheduler, None, None)
    return StableDiffusionPipeline(*parts, requires_safety_checker=False)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("width", [64, 96])
def test_pictures_equal_diffusers(tmp_path, same_pictures, prediction, guidance, width):
    noise = sampling.noise((4, 8, width // 8), 21, rng="cpu")
    with sdcpp_py.Pipeline(write_folder(tmp_path, prediction)) as ours:
        found = ours.generate(
            "a red circle",
            negative_prompt="blurry",
            cfg_scale=guidance,
            noise=noise,
            steps=10,
            width=width,
            height=64,
            sampler="euler",
            scheduler="discrete",
        ).images[0]
    same_pictures(
        found,
        their_pipeline(prediction_type=prediction),
        prompt_embeds=embed("a red circle"),
        negative_prompt_embeds=embed("blurry") if guidance > 1 else None,
        guidance_scale=guidance,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=10,
        height=64,
        width=width,
    )


def test_ddim_pictures_equal_diffusers(tmp_path):
    noise = sampling.noise((4, 8, 8), 22, rng="cpu")
    scheduler = DDIMScheduler(**NOISE, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(8)
    net = tiny_models.unet()
    x = torch.from_numpy(noise)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t, embed("a cat")).sample, t, x).prev_sample
    with sdcpp_py.Pipeline(write_folder(tmp_path)) as ours:
        table = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)
        levels = np.append(table[scheduler.timesteps.numpy()], 0).astype(np.float32)
        states = ours.prompt_states("a cat")

        def denoise(noisy, sigma):
            t = np.interp(np.log(sigma), np.log(table), np.arange(1000))
            scaled = noisy[None] / np.sqrt(1 + sigma**2)
            return noisy - sigma * ours.evaluate("unet", x=scaled, timesteps=np.array([t]), context=states)[0]

        # diffusers begins with the noise as it is, a sum of signal and noise of variance 1
        begin = noise * np.sqrt(1 + levels[0] ** 2)
        found = sampling.sample(denoise, begin, levels, sampler="ddim")
    assert np.abs(found - x[0].numpy()).max() / x.abs().max() < 1e-3


def test_zero_terminal_snr_pictures_equal_diffusers(tmp_path, same_pictures):
    noise = sampling.noise((4, 8, 8), 23, rng="cpu")
    options = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    folder = write_folder(tmp_path)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**NOISE, **options}))
    with sdcpp_py.Pipeline(folder) as ours:
        assert ours.default("scheduler") == "trailing"
        found = ours.generate("a red circle", cfg_scale=1, noise=noise, steps=10, width=64, height=64, sampler="euler").images[0]
    same_pictures(
        found,
        their_pipeline(**options),
        prompt_embeds=embed("a red circle"),
        guidance_scale=1.0,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=10,
        height=64,
        width=64,
    )


def test_pictures_from_a_picture_equal_diffusers(tmp_path, same_pictures):
    """diffusers runs int(N * strength) steps, this package one more: half of 8 steps are 4 there, 0.4 of 8 here."""
    from diffusers import StableDiffusionImg2ImgPipeline

    seed = 24
    with sdcpp_py.Pipeline(write_folder(tmp_path), rng="cpu") as ours:
        picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
        latent = ours.encode(picture)
        small = {"steps": 8, "width": 96, "height": 64, "sampler": "euler", "scheduler": "discrete", "cfg_scale": 1}
        found = ours.generate("a red circle", init_image=picture, strength=0.4, seed=seed, **small).image
    theirs = StableDiffusionImg2ImgPipeline(**their_pipeline().components, requires_safety_checker=False)
    same_pictures(
        found,
        theirs,
        prompt_embeds=embed("a red circle"),
        guidance_scale=1.0,
        image=torch.from_numpy(latent)[None],
        strength=0.5,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(seed),
    )


SCHEDULERS = {
    "sd15": (PNDMScheduler, {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1}),
    "pndm_trailing": (PNDMScheduler, {"skip_prk_steps": True, "timestep_spacing": "trailing"}),
    "sd21": (DDIMScheduler, {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "steps_offset": 0}),  # it becomes 1 in StableDiffusionPipeline
    "sdxl": (EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "euler": (EulerDiscreteScheduler, {}),
    "trailing": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "karras_leading": (EulerDiscreteScheduler, {"use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1}),
    "exponential_trailing": (LMSDiscreteScheduler, {"use_exponential_sigmas": True, "timestep_spacing": "trailing"}),
    "ddim_clip": (DDIMScheduler, {"clip_sample": True}),  # which StableDiffusionPipeline turns off
    "ddim_trailing": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "timestep_spacing": "trailing"}),
    "tcd": (TCDScheduler, {}),
    "heun": (HeunDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "lms": (LMSDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "unipc_trailing": (UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
    "deis": (DEISMultistepScheduler, {}),
    "dpm++_leading": (DPMSolverMultistepScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "dpm++_trailing": (DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "dpm++_first_order": (DPMSolverMultistepScheduler, {"solver_order": 1, "timestep_spacing": "trailing"}),
}


@pytest.mark.parametrize(("name", "steps"), [*((name, 10) for name in SCHEDULERS), ("ddim_trailing", 7)])
def test_a_folders_scheduler_gives_diffusers_picture(tmp_path, name, steps):
    """Nothing but the folder says which sampler and schedule are meant."""
    kind, settings = SCHEDULERS[name]
    folder = write_folder(tmp_path)
    scheduler = kind(**NOISE, **settings)
    scheduler.save_pretrained(folder / "scheduler")
    noise = sampling.noise((4, 8, 8), 25, rng="cpu")
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate("a red circle", cfg_scale=1, noise=noise, steps=steps, width=64, height=64)
        with torch.no_grad():
            theirs = their_pipeline(scheduler)(
                prompt_embeds=embed("a red circle"),
                guidance_scale=1.0,
                latents=torch.from_numpy(noise)[None],
                num_inference_steps=steps,
                height=64,
                width=64,
                output_type="latent",
            ).images[0]
    theirs = theirs.numpy()
    error = 20 * np.log10(np.abs(theirs).max() / np.sqrt(np.mean((found.latents[0] - theirs) ** 2)))
    print(name, f"{error:.1f} dB")
    assert error > (40 if name.startswith("dpm++") else 60)


def test_latent_consistency_steps_are_diffusers():
    scheduler = LCMScheduler(**NOISE)
    for steps in (1, 2, 4, 7, 50):
        scheduler.set_timesteps(steps)
        table = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)
        np.testing.assert_allclose(sampling.sigmas("lcm", steps)[:-1], table[scheduler.timesteps.numpy()], rtol=1e-5)
