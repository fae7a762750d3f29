"""The promises of `Pipeline` to its users."""

import io
import re
import threading

import numpy as np
import pytest
import tiny
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


@pytest.mark.parametrize("text", ["a (red:1.5) cat", "(a red cat:0.5)", "[a] ((red)) cat"])
def test_weights_keep_the_mean_of_a_prompts_states(pipeline, text):
    plain, weighted = pipeline.prompt_states("a red cat"), pipeline.prompt_states(text)
    ratio = weighted / plain
    assert ratio.max() / ratio.min() > 1.2  # tokens count differently
    np.testing.assert_allclose(weighted.mean(dtype=np.float64), plain.mean(dtype=np.float64), rtol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [2, 3])
def test_a_guided_run_is_what_its_formulas_say(tmp_path, prediction, steps):
    """Euler's method with guidance, in numpy, from the UNet's predictions."""
    noise, scale = sampling.noise((4, 8, 12), 21), 5.0
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)
    log_levels = np.log((1 - signal) / signal) / 2
    levels = [*np.exp(np.interp(np.linspace(999, 0, steps), np.arange(1000), log_levels)), 0.0]
    with sdcpp_py.Pipeline(tiny.write_folder(tmp_path, prediction)) as pipeline:
        texts = [pipeline.prompt_states(text) for text in ("a red cat", "blurry")]
        x = noise.astype(np.float64) * levels[0]
        for level, following in zip(levels, levels[1:], strict=False):
            length = np.sqrt(level**2 + 1)
            time = np.interp(np.log(level), log_levels, np.arange(1000))
            positive, negative = (
                pipeline.evaluate("unet", x=(x / length)[None], timesteps=np.array([time]), context=text)[0] for text in texts
            )
            prediction_of_both = negative + scale * (positive - negative)
            if prediction == "epsilon":
                clean = x - level * prediction_of_both
            else:
                clean = x / length**2 - prediction_of_both * level / length
            x = clean + following * (x - clean) / level
        found = pipeline.generate(
            "a red cat",
            negative_prompt="blurry",
            cfg_scale=scale,
            noise=noise,
            width=96,
            height=64,
            steps=steps,
            sampler="euler",
            scheduler="discrete",
            progress=False,
        )
    assert np.abs(found.latents[0] - x).max() < 1e-4 * np.abs(x).max()


def test_the_same_prompt_is_encoded_once(pipeline):
    pipeline.generate("encode me once", **SMALL)
    cached = len(pipeline._prompts)
    pipeline.generate("encode me once", **SMALL, seed=3)
    assert len(pipeline._prompts) == cached


def test_the_cache_of_prompts_forgets_the_oldest(folder):
    with sdcpp_py.Pipeline(folder) as fresh:
        encode, encoded = fresh._model.encode_prompt, []
        fresh._model.encode_prompt = lambda *given, **more: (encoded.append(given), encode(*given, **more))[1]
        most = sdcpp_py._prompts.CACHED
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
    assert text.startswith("a cat\nNegative prompt: dog, bad\nSteps: 3, Sampler: Euler, ")
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


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))


def test_a_picture_to_begin_from_is_what_little_strength_keeps(pipeline, photo):
    """By numpy: the clean latent under noise at the level where the run begins."""
    whole = pipeline.generate("x", **SMALL, seed=1)
    full = pipeline.generate("x", **SMALL, seed=1, init_image=photo, strength=1.0)
    least = pipeline.generate("x", **SMALL, seed=1, init_image=photo, strength=0.0)
    latent = pipeline.encode(photo)
    assert least.parameters["strength"] == 0.0 and "strength" not in whole.parameters

    def far(result):
        return np.abs(result.latents[0] - latent).mean()

    assert far(least) < far(full)
    sigmas = sampling.sigmas("discrete", 3)
    estimates = []
    pipeline.generate("x", **SMALL, seed=1, cfg_scale=1, init_image=photo, strength=0.4, callback=estimates.append)
    assert [step.step for step in estimates] == [1, 2] and estimates[0].steps == 2
    x = latent + sampling.noise(latent.shape, 1) * sigmas[1]
    states = pipeline.prompt_states("x")
    table = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)
    time = np.interp(np.log(sigmas[1]), np.log(table), np.arange(1000))
    noise = pipeline.evaluate("unet", x=x[None] / np.sqrt(sigmas[1] ** 2 + 1), timesteps=np.array([time]), context=states)[0]
    np.testing.assert_allclose(estimates[0].latent, x - sigmas[1] * noise, atol=2e-3, rtol=1e-3)


def test_pictures_to_begin_from_come_in_any_form(pipeline, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    given = {**SMALL, "seed": 1, "strength": 0.4}
    expected = pixels(pipeline.generate("x", **given, init_image=photo))
    assert np.array_equal(expected, pixels(pipeline.generate("x", **given, init_image=tmp_path / "photo.png")))
    assert np.array_equal(expected, pixels(pipeline.generate("x", **given, init_image=np.asarray(photo))))
    two = pipeline.generate("x", **given, batch_count=2, init_image=[photo, photo.rotate(90)])
    assert np.array_equal(pixels(two)[0], expected[0])
    assert np.array_equal(pixels(two)[1], pixels(pipeline.generate("x", **{**given, "seed": 2}, init_image=photo.rotate(90)))[0])
    with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="list of 2"):
        pipeline.generate("x", **given, batch_count=3, init_image=[photo, photo])
    for wrong in (3, np.zeros((4, 4), np.uint8), [b"x"]):
        with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="a picture must be"):
            pipeline.generate("x", **given, init_image=wrong)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(sdcpp_py.errors.BadFileError, match="no picture"):
        pipeline.generate("x", **given, init_image=tmp_path / "text.png")


def test_a_picture_gives_the_size_that_is_left_out(embedded):
    def size(across, down, **given):
        return embedded.generate("x", steps=1, init_image=Image.new("RGB", (across, down)), **given).image.size

    assert size(130, 100) == (128, 96)
    assert size(1280, 640) == (192, 96), "a large one is scaled down to the model's usual pixels"
    assert size(400, 200, width=64) == (64, 32)
    assert size(400, 200, width=64, height=64) == (64, 64)


def test_transparent_and_turned_pictures_are_seen_as_people_see_them(tmp_path):
    from sdcpp_py import _images

    assert _images.opened(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (4, 2))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert _images.opened(tmp_path / "turned.jpg").size == (2, 4)
    assert _images.fitted(Image.new("RGB", (30, 10)), 8, 8).size == (8, 8)


def test_strength_without_a_picture_is_said_to_have_no_effect(pipeline, caplog):
    plain = pipeline.generate("x", **SMALL, seed=1)
    with caplog.at_level("WARNING"):
        other = pipeline.generate("x", **SMALL, seed=1, strength=0.2)
    assert "strength has no effect" in caplog.text
    assert np.array_equal(pixels(plain), pixels(other))


def test_lists_of_prompts_and_seeds_are_the_single_pictures(pipeline):
    both = pipeline.generate(["a cat", "a dog"], **SMALL, seed=[9, 4], cfg_scale=2)
    assert both.seeds == [9, 4] and both.seed == 9
    for number, (prompt, seed) in enumerate([("a cat", 9), ("a dog", 4)]):
        assert np.array_equal(pixels(both)[number], pixels(pipeline.generate(prompt, **SMALL, seed=seed, cfg_scale=2))[0])
        assert both.images[number].info["parameters"].startswith(prompt)
    assert len(pipeline.generate(["a", "b"], **SMALL, batch_count=2, seed=1).images) == 4
    for wrong in ([], 3, [1], {"a": 1}, None):
        with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="prompt must be"):
            pipeline.generate(wrong, **SMALL)
    with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="seed is a list of 1; there are 2"):
        pipeline.generate(["a", "b"], **SMALL, seed=[1])


def test_each_picture_of_a_batch_may_have_its_own_noise(pipeline):
    noise = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    both = pipeline.generate("x", **SMALL, seed=1, batch_count=2, noise=noise)
    for number in range(2):
        assert np.array_equal(pixels(both)[number], pixels(pipeline.generate("x", **SMALL, seed=1, noise=noise[number]))[0])


@pytest.mark.parametrize(
    ("prompt", "more"),
    [
        (["x", "y"], {"seed": [3, 8], "negative_prompt": None, "rng": "cpu", "sampler": "ddim", "eta": 0.5}),
        (["x", "x"], {"seed": [3, 8]}),
        (["x", "y", "x"], {"seed": 3}),
        ("x", {"seed": 3, "batch_count": 2, "noise": np.ones((4, 8, 8), np.float32)}),
        ("x", {"seed": 3, "init_image": Image.new("RGB", (64, 64), "red"), "strength": 0.4}),
    ],
)
def test_a_results_parameters_make_it_again(pipeline, prompt, more, caplog):
    first = pipeline.generate(prompt, **{**SMALL, **more})
    caplog.clear()
    again = pipeline.generate(**first.parameters)
    assert len(first.images) == len(again.images) and np.array_equal(pixels(first), pixels(again))
    assert again.parameters.keys() == first.parameters.keys() and not caplog.text


def test_numbers_and_switches_are_not_mixed(pipeline):
    for name in ("cfg_scale", "eta", "strength", "guidance"):
        with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match=f"{name} must be a number, not True"):
            pipeline.generate("x", **SMALL, **{name: True})
    for value in ("no", float("nan"), 2):
        with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="vae_tiling must be True or False"):
            pipeline.generate("x", **SMALL, vae_tiling=value)
    assert pipeline.generate("x", **SMALL, vae_tiling=np.True_).images


def test_a_cancel_is_seen_while_the_call_waits_for_another(pipeline):
    import time

    event, waiting = threading.Event(), threading.Event()
    seconds = []

    def second():
        waiting.set()
        start = time.monotonic()
        with pytest.raises(sdcpp_py.errors.CancelledError):
            pipeline.generate("x", **SMALL, cancel=event)
        seconds.append(time.monotonic() - start)

    def first(step):
        if step.step == 1:
            thread.start()
            waiting.wait()
            event.set()
            thread.join(3)

    thread = threading.Thread(target=second)
    assert pipeline.generate("x", **SMALL, callback=first).images
    thread.join()
    assert len(seconds) == 1


def test_pictures_of_16_bits_keep_their_shades_and_floats_are_refused(pipeline):
    from sdcpp_py import _images

    grey = Image.fromarray(np.full((8, 8), 30000, np.uint16))
    assert _images.opened(grey).getpixel((0, 0)) == (116, 116, 116)
    with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="floats"):
        _images.opened(Image.fromarray(np.full((8, 8), 0.5, np.float32)))


def test_a_result_shows_and_saves_itself(pipeline, tmp_path):
    result = pipeline.generate("x", **SMALL, seed=3)
    assert result.image is result.images[0]
    assert re.fullmatch(r"<Result: 1 picture, 64x64, seed 3, [0-9.]+ s>", repr(result))
    assert all(len(repr(report)) < 100 for report in result.reports.values())
    assert Image.open(io.BytesIO(result._repr_png_())).text["parameters"] == result.image.info["parameters"]
    result.save(tmp_path / "a.png")
    for kind in ("jpeg", "webp"):
        data = io.BytesIO()
        result.save(data, kind)
        read = Image.open(io.BytesIO(data.getvalue()))
        comment = read.getexif().get_ifd(0x8769)[0x9286]
        assert read.format.lower() == kind and comment[8:].decode("utf-16-be") == result.image.info["parameters"]
    two = pipeline.generate("x", **SMALL, seed=3, batch_count=2)
    two.save(tmp_path / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "b_1.png"]
    with pytest.raises(sdcpp_py.errors.InvalidArgumentError, match="one by one"):
        two.save(io.BytesIO())
    for target, kind in ((tmp_path / "c.tiff", None), (io.BytesIO(), "gif"), (3, None)):
        with pytest.raises(sdcpp_py.errors.InvalidArgumentError):
            result.save(target, kind)


def test_a_step_has_a_rough_picture(pipeline):
    previews = []
    pipeline.generate("x", **SMALL, callback=lambda step: previews.append(step.preview))
    assert len(previews) == 3 and previews[0].size == (8, 8)
