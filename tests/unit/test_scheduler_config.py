"""A folder's scheduler_config.json: what is followed, and what is told. `tests/oracle/test_pipeline.py` compares pictures."""

import json
import logging

import numpy as np
import pytest
import tiny

import sdcpp_py
from sdcpp_py import sampling

SMALL = {"width": 64, "height": 64, "cfg_scale": 1, "progress": False}
TABLE = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)


def opened(folder, family="", **config):
    folder = tiny.write_family(folder, family) if family else tiny.write_folder(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**tiny.NOISE, **config}))
    return sdcpp_py.Pipeline(folder, threads=1)


@pytest.mark.parametrize(("spacing", "first", "last"), [("leading", 751, 1), ("trailing", 999, 249), ("linspace", 999, 0)])
def test_karras_levels_lie_between_those_of_the_spacing(tmp_path, spacing, first, last):
    config = {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, "timestep_spacing": spacing, "steps_offset": 1}
    noise = sampling.noise((4, 8, 8), 1)
    rho = 1 / 7
    levels = np.append(np.linspace(TABLE[first] ** rho, TABLE[last] ** rho, 4) ** 7, 0)
    with opened(tmp_path, **config) as pipeline:
        found = pipeline.generate("x", **SMALL, steps=4, noise=noise)
        given = pipeline.generate("x", **SMALL, sampler="euler", sigmas=levels.tolist(), noise=noise)
    assert (found.parameters["sampler"], found.parameters["scheduler"]) == ("euler", "karras")
    np.testing.assert_allclose(found.latents[0], given.latents[0], atol=1e-4)


@pytest.mark.parametrize("to_one", [False, True])
@pytest.mark.parametrize("steps", [5, 7])
def test_ddim_goes_on_by_even_strides(tmp_path, steps, to_one):
    """With 7 steps, timesteps are 142 or 143 apart, and each step goes 142 on."""
    config = {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "set_alpha_to_one": to_one, "clip_sample": False}
    x = noise = sampling.noise((4, 8, 8), 1)
    signal = 1 / (1 + TABLE**2)  # a of diffusers
    with opened(tmp_path, **config) as pipeline:
        found = pipeline.generate("x", **SMALL, steps=steps, noise=noise).latents[0]
        context = pipeline.prompt_states("x")
        for t in np.round(np.arange(1000, 0, -1000 / steps)).astype(int) - 1:
            before = t - 1000 // steps
            own, other = signal[t], signal[before] if before >= 0 else 1 if to_one else signal[0]
            predicted = pipeline.evaluate("unet", x=x[None], timesteps=np.array([float(t)]), context=context)[0]
            clean = (x - np.sqrt(1 - own) * predicted) / np.sqrt(own)
            x = (np.sqrt(other) * clean + np.sqrt(1 - other) * predicted).astype(np.float32)
    assert np.abs(found - x).max() < 1e-3 * np.abs(x).max()


def test_tcd_is_known(tmp_path):
    with opened(tmp_path, _class_name="TCDScheduler") as pipeline:
        assert (pipeline.default("sampler"), pipeline.default("scheduler")) == ("tcd", "lcm")
        assert pipeline.generate("x", **SMALL, steps=2).images


@pytest.mark.parametrize(
    ("family", "config", "told"),
    [
        ("", {"clip_sample": True}, False),  # StableDiffusionPipeline does not clip
        ("sdxl", {"clip_sample": True}, True),
        ("sdxl", {"clip_sample": False}, False),
        ("", {"clip_sample": False, "timestep_spacing": "linspace"}, True),
        ("", {"clip_sample": False, "thresholding": True}, True),
    ],
)
def test_settings_that_are_not_followed_are_told(tmp_path, caplog, family, config, told):
    with caplog.at_level(logging.WARNING), opened(tmp_path, family, _class_name="DDIMScheduler", **config):
        pass
    assert ("is not followed" in caplog.text) == told
