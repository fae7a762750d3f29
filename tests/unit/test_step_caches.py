"""Step caches: off they change nothing, on they save evaluations and keep near the picture."""

from __future__ import annotations

from pathlib import Path

import control_files
import numpy as np
import pytest
import tiny
from budgets import least_gib

from sdcpp_py import Pipeline
from sdcpp_py.control import Control
from sdcpp_py.errors import InvalidArgumentError

SETTINGS = {"steps": 20, "seed": 3, "sampler": "euler", "width": 64, "height": 64}
# a network, and how much its first block's work may change: much, since weights are random
TRANSFORMERS = {"z-image": ("z_image", 1.3), "flux.1": ("flux", 0.8)}
PROMPT = "a large red circle on a white background"


def test_caches_save_evaluations_and_keep_near_the_picture() -> None:
    with Pipeline() as pipe:
        wanted = pipe.generate(PROMPT, **SETTINGS)  # type: ignore[arg-type]
        whole = wanted.reports[pipe.denoiser].runs
        off = pipe.generate(PROMPT, cache_mode="easycache", cache_threshold=0, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(off.latents[0], wanted.latents[0]) and off.reports[pipe.denoiser].runs == whole
        for more in ({"cache_mode": "easycache"}, {"cache_mode": "taylorseer", "cache_interval": 2}):
            found = pipe.generate(PROMPT, **more, **SETTINGS)  # type: ignore[arg-type]
            assert found.reports[pipe.denoiser].runs < 0.8 * whole, more
            error = np.mean((np.asarray(found.image, float) - np.asarray(wanted.image, float)) ** 2)
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > 15, more
            again = pipe.generate(**found.parameters)
            assert np.array_equal(again.latents[0], found.latents[0])
        both = pipe.generate(PROMPT, cache_mode="easycache", batch_count=2, **SETTINGS)  # type: ignore[arg-type]
        alone = pipe.generate(PROMPT, cache_mode="easycache", **{**SETTINGS, "seed": 4})  # type: ignore[arg-type]
        assert np.array_equal(both.latents[1], alone.latents[0])


def test_a_streamed_run_is_the_same_and_uploads_less() -> None:
    with Pipeline() as pipe:
        wanted = pipe.generate(PROMPT, cache_mode="easycache", **SETTINGS)  # type: ignore[arg-type]
    with Pipeline(device="simulated:vram=1,link=12", max_vram=0.006) as pipe:
        plain = pipe.generate(PROMPT, **SETTINGS)  # type: ignore[arg-type]
        found = pipe.generate(PROMPT, cache_mode="easycache", **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(found.latents[0], wanted.latents[0])
        assert found.reports[pipe.denoiser].uploaded_bytes < 0.8 * plain.reports[pipe.denoiser].uploaded_bytes


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny.write_family(tmp_path_factory.mktemp(family), family) for family in TRANSFORMERS}


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_the_first_block_decides(transformers: dict[str, Path], family: str) -> None:
    given = {"steps": 20, "seed": 3, "width": 64, "height": 64, "cfg_scale": 3.0, "negative_prompt": "blurry"}
    network, threshold = TRANSFORMERS[family]
    cached = {"cache_mode": "first_block", "cache_threshold": threshold}
    with Pipeline(transformers[family]) as pipe:
        wanted = pipe.generate("x", **given)  # type: ignore[arg-type]
        off = pipe.generate("x", cache_mode="first_block", cache_threshold=0, **given)  # type: ignore[arg-type]
        assert np.array_equal(off.latents[0], wanted.latents[0])
        found = pipe.generate("x", **cached, **given)  # type: ignore[arg-type]
        assert not np.array_equal(found.latents[0], wanted.latents[0])
        away = np.abs(found.latents[0] - wanted.latents[0]).mean() / np.abs(wanted.latents[0]).mean()
        assert away < 0.2
        again = pipe.generate(**found.parameters)
        assert np.array_equal(again.latents[0], found.latents[0])
        both = pipe.generate("x", batch_count=2, **cached, **given)  # type: ignore[arg-type]
        assert np.array_equal(both.latents[0], found.latents[0])
        layers = pipe.generate("x", slg_scale=2, skip_layers=[1], **cached, **given)  # type: ignore[arg-type]
        assert not np.array_equal(layers.latents[0], found.latents[0])
        texts = {"conditioning": pipe.encode_prompt("x"), "negative_conditioning": pipe.encode_prompt("blurry", negative=True)}
    del given["negative_prompt"]
    for policy in ("capped", "pipelined"):
        budget = least_gib(transformers[family], policy, {network: 64}) * 1.3
        with Pipeline(transformers[family], device="simulated:vram=1,link=2", max_vram=budget, plan_policy=policy) as pipe:
            plain = pipe.generate(**texts, **given).reports[pipe.denoiser]  # type: ignore[arg-type]
            streamed = pipe.generate(**texts, **cached, **given)  # type: ignore[arg-type]
            report = streamed.reports[pipe.denoiser]
            assert np.array_equal(streamed.latents[0], found.latents[0])
            # pipelined plans of such small networks change with measured times, and with them what is uploaded
            assert policy == "pipelined" or 0 < report.uploaded_bytes < 0.9 * plain.uploaded_bytes


def test_a_cache_begins_anew_where_a_controls_share_begins(tmp_path: Path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    net = control_files.write(tmp_path / "net.safetensors", control_files.cldm(control_files.control_net()))
    hint = Control(net, control_files.hint(), strength=4.0, start=0.5)
    given = {"steps": 8, "seed": 3, "width": 64, "height": 64, "sampler": "euler", "cache_start": 0.0, "cache_end": 1.0}
    with Pipeline(folder) as pipe:
        led = pipe.generate("x", cache_mode="easycache", cache_threshold=100, controls=[hint], **given)  # type: ignore[arg-type]
        without = pipe.generate("x", cache_mode="easycache", cache_threshold=100, **given)  # type: ignore[arg-type]
        assert without.reports[pipe.denoiser].runs == 2, "two steps are computed to learn how predictions change"
        assert led.reports[pipe.denoiser].runs == 4, "two before the share begins, and two after"


def test_what_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    with Pipeline() as pipe:
        with pytest.raises(InvalidArgumentError, match="easycache"):
            pipe.generate(PROMPT, cache_mode="easycash", **SETTINGS)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="first_block is for diffusion transformers"):
            pipe.generate(PROMPT, cache_mode="first_block", **SETTINGS)  # type: ignore[arg-type]
        pipe.generate(PROMPT, cache_threshold=0.5, **{**SETTINGS, "steps": 1})  # type: ignore[arg-type]
        assert "cache_threshold has no effect" in caplog.text
