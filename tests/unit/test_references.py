"""Reference pictures: streamed as resident, in batches, and what is refused."""

import numpy as np
import pytest
import tiny
from budgets import least_gib
from PIL import Image

import sdcpp_py
from sdcpp_py import errors


def picture(seed, width=48, height=32):
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("flux_2"), "flux.2")


def latents(folder, references, *, device="CPU", batch=1, **options):
    with sdcpp_py.Pipeline(folder, device=device, link_speed=(2e10, 2e9), **options) as pipeline:
        made = pipeline.generate(
            *("make it red",),
            ref_images=references,
            width=64,
            height=64,
            steps=2,
            cfg_scale=2.0,
            seed=3,
            batch_count=batch,
            progress=False,
        )
        return np.stack(made.latents)


def test_they_change_the_picture_and_count_in_their_order(folder):
    one, two = picture(1), picture(2, 32, 64)
    found = [latents(folder, given) for given in (None, [one], [one, two], [two, one])]
    assert len({array.tobytes() for array in found}) == 4


def test_streamed_as_resident_and_alone_as_in_a_batch(folder):
    references = [picture(1), picture(2)]
    resident = latents(folder, references, batch=2, max_vram=0)
    budget = least_gib(folder, "auto", dict.fromkeys(("llm", "flux_2", "vae.decoder", "vae.encoder"), 64)) * 2
    streamed = latents(folder, references, batch=2, device="simulated:vram=1,link=2", max_vram=budget)
    np.testing.assert_array_equal(streamed, resident)
    np.testing.assert_array_equal(latents(folder, references, max_vram=0)[0], resident[0])


def test_a_large_picture_is_made_as_large_as_the_model_takes(folder):
    with sdcpp_py.Pipeline(folder) as pipeline:
        assert pipeline._references.fitted(picture(1, 4096, 1024)).size == (2048, 512)
        assert pipeline._references.fitted(picture(1, 100, 50)).size == (96, 48)
        assert pipeline._references.fitted(picture(1, 3, 5)).size == (16, 16)


def test_what_is_refused(folder, embedded):
    with pytest.raises(errors.InvalidArgumentError, match="ref_images have no use"):
        embedded.generate("x", ref_images=[picture(1)], steps=1)
    with sdcpp_py.Pipeline(folder) as taking:
        with pytest.raises(errors.SdcppError):
            taking.generate("x", ref_images=["missing.png"], steps=1)
        with pytest.raises(errors.InvalidArgumentError, match="reference_sides"):
            values = {"references": np.zeros(128 * 4, np.float32), "reference_sides": [2, 3]}
            taking._model.sample(
                [],
                {"width": 64, "height": 64, "steps": 1, "batch_count": 1, **values},
                (1, 128, 4, 4),
                lambda *_: None,
                stop=None,
            )
