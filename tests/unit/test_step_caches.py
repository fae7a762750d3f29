"""Step caches: off they change nothing, on they save evaluations and keep near the picture."""

from __future__ import annotations

import numpy as np
import pytest

from sdcpp_py import Pipeline
from sdcpp_py.errors import InvalidArgumentError

SETTINGS = {"steps": 20, "seed": 3, "sampler": "euler", "width": 64, "height": 64}
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


def test_what_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    with Pipeline() as pipe:
        with pytest.raises(InvalidArgumentError, match="easycache"):
            pipe.generate(PROMPT, cache_mode="easycash", **SETTINGS)  # type: ignore[arg-type]
        pipe.generate(PROMPT, cache_threshold=0.5, **{**SETTINGS, "steps": 1})  # type: ignore[arg-type]
        assert "cache_threshold has no effect" in caplog.text
