"""Reference pictures of FLUX.1 Kontext and FLUX.2 against diffusers, f32."""

import json

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from PIL import Image
from test_families import flux_states
from test_flux_2 import theirs as klein

import sdcpp_py
from sdcpp_py import errors, sampling


def picture(seed, width, height):
    small = np.random.RandomState(seed).randint(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("pictures", [[picture(1, 96, 80)], [picture(1, 96, 80), picture(2, 70, 130)]], ids=["one", "two"])
def test_flux_2(tmp_path, same_pictures, pictures):
    folder = tiny.write_family(tmp_path, "flux.2")
    noise = sampling.noise((128, 4, 6), 21, rng="cpu")
    sizes = {"width": 96, "height": 64}
    with sdcpp_py.Pipeline(folder) as ours:
        found = ours.generate("make it red", ref_images=pictures, noise=noise, steps=4, cfg_scale=1, progress=False, **sizes)
    same_pictures(
        found.images[0],
        klein(),
        image=pictures,
        prompt="make it red",
        guidance_scale=1.0,
        latents=torch.from_numpy(noise)[None],
        num_inference_steps=4,
        **sizes,
    )


def kontext(folder):
    tiny.write_family(folder, "flux.1")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxKontextPipeline"}))
    return folder


def test_kontext(tmp_path, same_pictures):
    """The picture is given in a size of the model's own, since diffusers scales others by another filter."""
    noise, shown = sampling.noise((16, 8, 12), 21, rng="cpu"), picture(3, 1568, 672)
    with sdcpp_py.Pipeline(kontext(tmp_path)) as ours:
        found = ours.generate(
            "make it red", ref_images=[shown], noise=noise, steps=2, width=96, height=64, guidance=2.5, progress=False
        )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    theirs = FluxKontextPipeline(scheduler, tiny_models.z_vae(), None, None, None, None, tiny_models.f_transformer())
    states, pooled = flux_states("make it red")
    same_pictures(
        found.images[0],
        theirs,
        image=shown,
        prompt_embeds=states,
        pooled_prompt_embeds=pooled,
        guidance_scale=2.5,
        latents=FluxKontextPipeline._pack_latents(torch.from_numpy(noise)[None], 1, 16, 8, 12),
        num_inference_steps=2,
        height=64,
        width=96,
        max_area=64 * 96,
        _auto_resize=False,
    )


def test_sizes_follow_the_first_picture(tmp_path):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "flux.2")) as ours:
        made = ours.generate("x", ref_images=picture(4, 70, 50), steps=1, progress=False)
        assert made.images[0].size == (64, 48)
    with sdcpp_py.Pipeline(kontext(tmp_path / "kontext")) as ours:
        assert ours._references.fitted(picture(4, 300, 200)).size == (1248, 832)


def test_models_that_take_none_say_so(tmp_path):
    ours = sdcpp_py.Pipeline(tiny.write_family(tmp_path, "flux.1"))
    with ours, pytest.raises(errors.InvalidArgumentError, match="ref_images"):
        ours.generate("x", ref_images=picture(5, 64, 64), steps=1)
