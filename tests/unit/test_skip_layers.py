"""Skip-layer guidance: transformers alone have it, streamed as resident, with what cannot be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from budgets import least_gib

import sdcpp_py
from sdcpp_py import Pipeline
from sdcpp_py.errors import InvalidArgumentError

FAMILIES = {"z-image": "z_image", "flux.1": "flux"}
SETTINGS = {"steps": 10, "seed": 3, "width": 64, "height": 64, "cfg_scale": 3.0, "negative_prompt": "blurry"}
LAYER = {"slg_scale": 2.8, "skip_layers": [1]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny.write_family(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", ["capped", "pipelined"])
def test_streamed_is_resident(folders: dict[str, Path], family: str, policy: str) -> None:
    budget = least_gib(folders[family], policy, {FAMILIES[family]: 64}) * 1.3
    with Pipeline(folders[family]) as pipe:
        plain = pipe.generate("x", **SETTINGS)  # type: ignore[arg-type]
        wanted = pipe.generate("x", **LAYER, **SETTINGS)  # type: ignore[arg-type]
        assert wanted.reports[pipe.denoiser].runs == plain.reports[pipe.denoiser].runs + 1, "in the second of ten steps"
        assert not np.array_equal(plain.latents[0], wanted.latents[0])
        assert "SLG scale: 2.8, Skip layers: 1" in wanted.image.info["parameters"]
        again = pipe.generate(**wanted.parameters)
        assert np.array_equal(again.latents[0], wanted.latents[0])
        off = pipe.generate("x", **{**LAYER, "slg_scale": 0}, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(off.latents[0], plain.latents[0])
        both = pipe.generate("x", **LAYER, batch_count=2, **SETTINGS)  # type: ignore[arg-type]
        texts = {"conditioning": pipe.encode_prompt("x"), "negative_conditioning": pipe.encode_prompt("blurry", negative=True)}
    own = {name: value for name, value in SETTINGS.items() if name != "negative_prompt"}
    with Pipeline(folders[family], device="simulated:vram=1,link=2", max_vram=budget, plan_policy=policy) as pipe:
        found = pipe.generate(**texts, **LAYER, **own, batch_count=2)  # type: ignore[arg-type]
        assert found.reports[pipe.denoiser].uploaded_bytes_per_step > 0
    assert np.array_equal(found.latents[0], wanted.latents[0])
    assert np.array_equal(found.latents[1], both.latents[1])


def test_it_needs_no_other_guidance(folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    with Pipeline(folders["z-image"]) as pipe:
        given = {**SETTINGS, "cfg_scale": 1.0, "negative_prompt": ""}
        one, other = (pipe.generate("x", **more, **given) for more in ({}, {**LAYER, "skip_layer_end": 0.9}))  # type: ignore[arg-type]
        assert not np.array_equal(one.latents[0], other.latents[0]) and not caplog.text
        pipe.generate("x", skip_layer_end=0.5, **{**given, "steps": 1})  # type: ignore[arg-type]
        assert "skip_layer_end has no effect without slg_scale" in caplog.text
        cached = pipe.generate("x", cache_mode="easycache", **LAYER, **SETTINGS)  # type: ignore[arg-type]
        assert np.isfinite(cached.latents[0]).all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"slg_scale": 2.8}, "skip_layers has 7; this model's blocks are 0 to 1"),
        ({"slg_scale": 2.8, "skip_layers": [2]}, "skip_layers has 2"),
        ({"slg_scale": 2.8, "skip_layers": "0.5"}, "skip_layers must be whole numbers"),
        ({"slg_scale": 2.8, "skip_layers": [-1]}, "skip_layers"),
        ({"slg_scale": 2.8, "skip_layers": []}, "skip_layers must be a list of numbers"),
        ({"slg_scale": -1, "skip_layers": [1]}, "slg_scale is -1"),
        ({"slg_scale": 2.8, "skip_layers": [1], "skip_layer_end": 2}, "skip_layer_end is 2"),
    ],
)
def test_what_cannot_be(folders: dict[str, Path], given: dict[str, object], says: str) -> None:
    with Pipeline(folders["z-image"]) as pipe:
        with pytest.raises(InvalidArgumentError, match=says):
            pipe.generate("x", **given, **SETTINGS)  # type: ignore[arg-type]
        assert pipe.generate("x", **{**SETTINGS, "steps": 1}).images  # type: ignore[arg-type]


def test_a_unet_has_no_such_layers() -> None:
    with sdcpp_py.StableDiffusion() as model:
        with pytest.raises(InvalidArgumentError, match="slg_scale is for diffusion transformers"):
            model.generate_image("a red circle", sample_steps=2, slg_scale=2.5)
        assert model.generate_image("a red circle", sample_steps=2)
