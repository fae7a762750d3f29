"""The promises of `Pipeline` to its users."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import options, sampling

SMALL = {"width": 64, "height": 64, "steps": 3, "sampler": "euler"}


def pixels(result):
    return [np.asarray(image) for image in result.images]


def test_a_seed_gives_the_same_picture_and_none_a_new_one(pipeline):
    first, again = pipeline.generate("x", **SMALL, seed=7), pipeline.generate("x", **SMALL, seed=7)
    assert np.array_equal(pixels(first), pixels(again))
    assert first.seed == 7
    others = {pipeline.generate("x", **SMALL, seed=seed).seed for seed in (None, -1)}
    assert len(others) == 2 and all(seed >= 0 for seed in others)


def test_a_batch_counts_seeds_up(pipeline):
    batch = pipeline.generate("x", **SMALL, seed=5, batch_count=3)
    for n, picture in enumerate(pixels(batch)):
        assert np.array_equal(picture, pixels(pipeline.generate("x", **SMALL, seed=5 + n))[0])


def test_both_generators_and_all_samplers_run(folder, pipeline):
    with sdcpp_py.Pipeline(folder, rng="cpu") as other:
        assert not np.array_equal(pixels(other.generate("x", **SMALL, seed=1)), pixels(pipeline.generate("x", **SMALL, seed=1)))
    for sampler in options.SAMPLERS:
        assert pipeline.generate("x", **{**SMALL, "sampler": sampler}).images
    for scheduler in options.SCHEDULERS:
        assert pipeline.generate("x", **SMALL, scheduler=scheduler).images


def test_guidance_of_1_skips_the_negative_prompt(pipeline):
    one = pipeline.generate("x", **SMALL, seed=1, cfg_scale=1, negative_prompt="a")
    two = pipeline.generate("x", **SMALL, seed=1, cfg_scale=1, negative_prompt="b")
    assert np.array_equal(pixels(one), pixels(two))


def test_weights_and_long_prompts_change_the_picture(pipeline):
    plain = pixels(pipeline.generate("a red cat", **SMALL, seed=1))
    assert not np.array_equal(plain, pixels(pipeline.generate("a (red:1.5) cat", **SMALL, seed=1)))
    assert not np.array_equal(plain, pixels(pipeline.generate("a red cat " * 30, **SMALL, seed=1)))


def test_the_same_prompt_is_encoded_once(pipeline):
    pipeline.generate("encode me once", **SMALL)
    cached = len(pipeline._prompts)
    pipeline.generate("encode me once", **SMALL, seed=3)
    assert len(pipeline._prompts) == cached


def test_the_cache_of_prompts_forgets_the_oldest(folder):
    with sdcpp_py.Pipeline(folder) as fresh:
        encode, encoded = fresh._model.encode_prompt, []
        fresh._model.encode_prompt = lambda *given, **more: (encoded.append(given), encode(*given, **more))[1]
        most = sdcpp_py.pipeline._CACHED_PROMPTS
        for number in range(most):
            fresh.prompt_states(f"prompt {number}")
        fresh.prompt_states("prompt 0")  # is now the one used last
        assert len(encoded) == len(fresh._prompts) == most
        fresh.prompt_states("one more")
        assert len(fresh._prompts) == most
        fresh.prompt_states("prompt 0")
        assert len(encoded) == most + 1
        fresh.prompt_states("prompt 1")
        assert len(encoded) == most + 2


def test_reports_are_of_the_pipelines_networks(pipeline):
    result = pipeline.generate("a prompt of its own", **SMALL)
    assert list(result.reports) == [name for name in pipeline.networks if name in ("clip_l", "unet", "vae.decoder")]
    for report in result.reports.values():
        assert report.runs >= 1 and report.seconds > 0 and report.plan.stages and report.plan.segments


def test_callbacks_see_every_step(pipeline):
    seen = []
    pipeline.generate("x", **SMALL, batch_count=2, callback=seen.append)
    assert [(s.image_index, s.step, s.steps) for s in seen] == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert all(s.latent.shape == (4, 8, 8) and np.isfinite(s.latent).all() for s in seen)


def test_results_say_what_was_done(pipeline):
    result = pipeline.generate("a cat", negative_prompt="dog, bad", **SMALL, seed=3)
    assert result.timings["total"] > 0 and result.memory["workspace"] > 0
    assert result.latents[0].shape == (4, 8, 8)
    text = result.images[0].info["parameters"]
    assert text.startswith("a cat\nNegative prompt: dog, bad\nSteps: 3, Sampler: euler, ")
    assert "Seed: 3, Size: 64x64" in text


def test_two_pipelines_in_two_threads(folder, pipeline):
    expected = pixels(pipeline.generate("x", **SMALL, seed=1))
    found = {}

    def work(number):
        with sdcpp_py.Pipeline(folder) as own:
            found[number] = pixels(own.generate("x", **SMALL, seed=1))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(np.array_equal(found[n], expected) for n in range(2))


def test_one_pipeline_in_two_threads(pipeline):
    expected = pixels(pipeline.generate("x", **SMALL, seed=1))
    found = []
    threads = [threading.Thread(target=lambda: found.append(pixels(pipeline.generate("x", **SMALL, seed=1)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 2 and all(np.array_equal(one, expected) for one in found)


def test_a_small_picture_is_one_tile(pipeline):
    latent = sampling.noise((4, 24, 40), 1)
    assert np.array_equal(np.asarray(pipeline.decode(latent)), np.asarray(pipeline.decode(latent, vae_tiling=True)))


def test_tiles_show_no_seams(embedded):
    """Group norms see each tile's own statistics, so small differences to the whole picture are allowed, edges not."""
    picture = embedded.generate("a red circle on a blue background", seed=1, steps=8)
    latent = np.tile(picture.latents[0], (1, 3, 3))
    whole = np.asarray(embedded.decode(latent, vae_tiling=False)).astype(int)
    tiled = np.asarray(embedded.decode(latent, vae_tiling=True, vae_tile_size=24)).astype(int)
    assert np.abs(whole - tiled).mean() < 4
    steps = np.abs(np.diff(tiled - whole, axis=1)).mean(axis=(0, 2))
    assert steps.max() < steps.mean() + 6


def test_encode_and_decode(pipeline, embedded):
    picture = embedded.generate("a red circle on a blue background", seed=1).images[0]
    latent = embedded.encode(picture)
    assert latent.shape == (4, 16, 16)
    back = np.asarray(embedded.decode(latent)).astype(float)
    assert 10 * np.log10(255**2 / ((back - np.asarray(picture)) ** 2).mean()) > 25
    assert pipeline.decode(sampling.noise((4, 8, 8), 1), use_taesd=True).size == (64, 64)


def test_repr_and_defaults(embedded, pipeline):
    assert "shapes.gguf on" in repr(embedded)
    assert embedded.default("width") == 128 and pipeline.default("width") == 512
    with pytest.raises(ValueError, match="no option"):
        pipeline.default("nonsense")


def test_saved_pictures_carry_their_parameters(pipeline, tmp_path):
    image = pipeline.generate("a cat", **SMALL, seed=3).images[0]
    sdcpp_py.save(image, tmp_path / "x.png")
    assert Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())).text["parameters"] == image.info["parameters"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    with pytest.raises(ValueError, match=r"\.png"):
        sdcpp_py.save(image, tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sdcpp_py.save(image, tmp_path / "no" / "x.png")
