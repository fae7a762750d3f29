"""Every face names options as its users write them, and whatever it is given ends in an answer or in one of our errors."""

import io
import logging

import numpy as np
import pytest
import tiny
from PIL import Image

import sdcpp_py
from sdcpp_py import _compat, cli, errors, options

SMALL = {"width": 64, "height": 64, "sample_steps": 1}
ARRAY = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def facade(tmp_path_factory):
    with sdcpp_py.StableDiffusion(tiny.write_folder(tmp_path_factory.mktemp("facade"))) as model:
        yield model


def test_the_facade_takes_levels_of_noise_in_an_array(facade):
    levels = [10.0, 3.0, 1.0, 0.0]
    made = [facade.generate_image("x", width=64, height=64, sigmas=one)[0] for one in (levels, np.array(levels))]
    assert made[0].tobytes() == made[1].tobytes()


@pytest.mark.parametrize(
    "name",
    ["control_image", "ref_images", "pm_id_images", "guidance", "seed", "width", "sample_method", "vae_tile_size", "hires"],
)
def test_arrays_in_the_facade_are_told(facade, name):
    with pytest.raises(errors.SdcppError, match=name):
        facade.generate_image("x", **{**SMALL, name: ARRAY})


@pytest.mark.parametrize("name", ["model_path", "wtype", "max_vram", "clip_l_path", "embedding_paths", "sampler_rng_type"])
def test_arrays_in_the_facades_constructor_are_told(name):
    with pytest.raises(errors.SdcppError):
        sdcpp_py.StableDiffusion(**{name: ARRAY})


@pytest.mark.parametrize("name", ["progress_callback", "preview_callback"])
def test_what_is_no_function_is_told_before_the_work(facade, name):
    with pytest.raises(errors.InvalidArgumentError, match=f"{name} must be a function"):
        facade.generate_image("x", **SMALL, **{name: 5})


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"sample_steps": 0}, "sample_steps is 0"),
        ({"sample_method": "eulr"}, "unknown sample_method"),
        ({"num_inference_steps": 5}, "did you mean sample_steps"),
        ({"steps": 5}, "did you mean sample_steps"),
        ({"guidance_scale": 5}, "did you mean cfg_scale"),
    ],
)
def test_the_facade_says_its_own_names(facade, keywords, says):
    with pytest.raises(errors.InvalidArgumentError, match=says):
        facade.generate_image("x", **{**SMALL, **keywords})


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"n_threads": 0}, "n_threads is 0"),
        ({"rng_type": "gpu"}, "unknown rng_type"),
        ({"offload_params_to_cpu": 7}, "offload_params_to_cpu must be"),
        ({"threads": 2}, "did you mean n_threads"),
        ({"wtype": "q4_k_m"}, "unknown wtype 'q4_k_m'; did you mean q4_K"),
    ],
)
def test_the_facades_constructor_says_its_own_names(keywords, says):
    with pytest.raises(errors.InvalidArgumentError, match=says):
        sdcpp_py.StableDiffusion(**keywords)


def test_the_facade_names_the_keyword_of_a_part(tmp_path):
    unet = tiny.write_folder(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
    with sdcpp_py.StableDiffusion(diffusion_model_path=unet) as model, pytest.raises(errors.MissingPartError, match="_path"):
        model.generate_image("x", **SMALL)


def test_python_and_the_command_line_keep_their_names(caplog, capsys, tmp_path):
    with pytest.raises(errors.InvalidArgumentError, match=r"^threads is 0"):
        sdcpp_py.Pipeline(threads=0)
    with caplog.at_level(logging.WARNING), sdcpp_py.Pipeline() as pipeline:
        pipeline.generate("a star", steps=1, strength=0.5, guidance=3, flow_shift=2, progress=False)
    assert "strength has no effect without init_image" in caplog.text and "; cfg_scale guides it" in caplog.text
    caplog.clear()
    given = ["a star", "--steps", "1", "-o", str(tmp_path / "x.png"), "--no-progress"]
    assert cli.main(["generate", *given, "--strength", ".5", "--guidance", "3", "--flow-shift", "2"]) == 0
    assert "--strength has no effect without --init-img" in caplog.text
    assert "--guidance has no effect" in caplog.text and "; --cfg-scale guides it" in caplog.text
    assert "--flow-shift has no effect" in caplog.text
    capsys.readouterr()
    assert cli.main(["plan", "--network", "X"]) == 1
    assert "--network must be one of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["generate", "a star", "--num-inference-steps", "5"])
    assert "did you mean --steps?" in capsys.readouterr().err


def test_the_facades_maps_of_names():
    for name in sdcpp_py.GGML_TYPE_MAP.values():
        if name != "default":
            sdcpp_py.Pipeline(wtype=name).close()
    assert set(sdcpp_py.PREVIEW_MAP) == set(options.GENERATE["preview"].choices)
    assert set(sdcpp_py.LORA_APPLY_MODE_MAP) and set(sdcpp_py.SD_HIRES_UPSCALER_MAP)
    assert "lora_apply_mode" in _compat._NO_EFFECT
    assert {"disabled", "easycache"} <= set(sdcpp_py.SD_CACHE_MODE_MAP)


def test_networks_and_parts_of_other_kinds_are_told():
    with sdcpp_py.Pipeline() as pipeline:
        for use in (lambda: pipeline.plan(network=ARRAY), lambda: pipeline.evaluate(ARRAY)):
            with pytest.raises(errors.InvalidArgumentError, match="network must be one of"):
                use()
    for part in (None, [], 3):
        with pytest.raises(errors.InvalidArgumentError, match="part must be a str"):
            sdcpp_py.summarize("x.safetensors", part=part)


def test_pictures_are_saved_or_refused(tmp_path):
    with sdcpp_py.Pipeline() as pipeline:
        result = pipeline.generate("a star", steps=1, progress=False)
    with pytest.raises(errors.InvalidArgumentError, match="NUL"):
        result.save("a\0.png")
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    for target in (tmp_path / "x.jpg", io.BytesIO()):
        sdcpp_py.save(clear, target, "jpeg")
        with Image.open(target) as found:
            assert found.mode == "RGB" and min(found.getpixel((4, 4))) > 250
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"):
        for kind in ("png", "jpeg", "webp", "bmp"):
            sdcpp_py.save(Image.new(mode, (8, 8)), io.BytesIO(), kind)
    with pytest.raises(errors.InvalidArgumentError, match="floats"):
        sdcpp_py.save(Image.new("F", (8, 8)), tmp_path / "x.png")
