"""Pictures' parameters: what is written is read, and makes the same picture again; other programs' are understood."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sdcpp_py import Pipeline, metadata, save
from sdcpp_py.cli import main
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError

PROMPT = 'a "large" red circle,\non a white background: été \u2603'
SETTINGS = {"width": 64, "height": 64, "steps": 3, "seed": 2**63, "sampler": "euler_a", "scheduler": "karras"}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_makes_itself_again(pipe: Pipeline, tmp_path: Path, ending: str) -> None:
    more = {"eta": 0.3, "guidance_rescale": 0.5, "cfg_scale": 3.21}
    made = pipe.generate(PROMPT, negative_prompt="dark, blue: x", **SETTINGS, **more)  # type: ignore[arg-type]
    save(made.image, tmp_path / f"picture.{ending}")
    found = metadata.read(tmp_path / f"picture.{ending}")
    assert (found.tool, found.prompt, found.negative_prompt) == ("sdcpp_py", PROMPT, "dark, blue: x")
    assert not found.unused and not found.lacking
    again = pipe.generate(**found.keywords)
    assert np.array_equal(again.latents[0], made.latents[0])


def test_its_text_is_a1111s(pipe: Pipeline) -> None:
    made = pipe.generate(PROMPT, negative_prompt="dark, blue: x", **SETTINGS)  # type: ignore[arg-type]
    found = metadata.of_text(made.image.info["parameters"])
    assert found is not None
    assert (found.prompt, found.negative_prompt) == (PROMPT, "dark, blue: x")
    assert found.fields["Sampler"] == "Euler a" and found.fields["Schedule type"] == "Karras"
    assert {name: found.options[name] for name in SETTINGS} == SETTINGS


def test_a_batchs_pictures_are_each_made_again(pipe: Pipeline) -> None:
    made = pipe.generate(PROMPT, batch_count=2, **SETTINGS)  # type: ignore[arg-type]
    found = metadata.read(made.images[1])
    assert np.array_equal(pipe.generate(**found.keywords).latents[0], made.latents[1])


def test_what_a_file_cannot_hold_is_told(pipe: Pipeline, tmp_path: Path) -> None:
    start = Image.new("RGB", (64, 64), "white")
    made = pipe.generate(PROMPT, init_image=start, **SETTINGS)  # type: ignore[arg-type]
    save(made.image, tmp_path / "a.png")
    assert metadata.read(tmp_path / "a.png").lacking == ["init_image"]
    assert main(["generate", "--from-picture", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 1
    start.save(tmp_path / "start.png")
    words = ["generate", "--from-picture", str(tmp_path / "a.png"), "-i", str(tmp_path / "start.png")]
    assert main([*words, "-o", str(tmp_path / "b.png")]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(made.image))


def test_the_command_shows_and_replays(pipe: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = pipe.generate("a large red circle", sigmas=[10, 3, 1, 0], **{**SETTINGS, "steps": None, "scheduler": None})  # type: ignore[arg-type]
    save(made.image, tmp_path / "a.png")
    assert main(["info", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "prompt: a large red circle" in shown and "--seed 9223372036854775808" in shown and "made with sdcpp_py" in shown
    assert main(["generate", "--from-picture", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(made.image))
    assert main(["generate", "--from-picture", str(tmp_path / "a.png"), "-s", "7", "-o", str(tmp_path / "c.png")]) == 0
    assert metadata.read(tmp_path / "c.png").options["seed"] == 7


A1111 = """a cat <lora:soft:0.7>, (hat:1.2)
second line
Negative prompt: bad, worse
Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 123, Size: 512x768, Model hash: abcdef0123, Model: some, \
Denoising strength: 0.4, Clip skip: 2, Lora hashes: "soft: 123456789abc", Version: v1.6.0"""


def test_a1111() -> None:
    found = metadata.of_text(A1111)
    assert found is not None and found.tool == "A1111"
    assert found.prompt == "a cat <lora:soft:0.7>, (hat:1.2)\nsecond line" and found.negative_prompt == "bad, worse"
    assert found.options == {
        **{"steps": 25, "sampler": "dpm++2m", "scheduler": "karras", "cfg_scale": 6.5, "seed": 123, "width": 512},
        **{"height": 768, "strength": 0.4, "clip_skip": 2, "rng": "cuda"},
    }
    assert found.fields["Lora hashes"] == "soft: 123456789abc"
    assert "Model hash" in found.unused


def test_stable_diffusion_cpp() -> None:
    text = (
        "a cat\nNegative prompt: dog\nSteps: 20, CFG scale: 7.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, "
        "Size: 512x512, Model: x.gguf, RNG: cuda, Sampler: dpm++2m karras, Version: stable-diffusion.cpp"
    )
    found = metadata.of_text(text)
    assert found is not None and found.tool == "stable-diffusion.cpp"
    assert (found.options["sampler"], found.options["scheduler"], found.options["guidance"]) == ("dpm++2m", "karras", 3.5)


COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            **{"seed": 8566257, "steps": 20, "cfg": 8, "sampler_name": "dpmpp_2m", "scheduler": "normal", "denoise": 1},
            **{"model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["11", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad hands", "clip": ["4", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["4", 0], "clip": ["4", 1]}},
    "11": {"class_type": "StringConstant", "inputs": {"text": "masterpiece"}},
}


def picture(tmp_path: Path, **texts: str) -> Path:
    """A picture with these texts."""
    chunk = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunk.add_text(key, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png", pnginfo=chunk)
    return tmp_path / "p.png"


def test_comfyui(tmp_path: Path) -> None:
    found = metadata.read(picture(tmp_path, prompt=json.dumps(COMFY), workflow="{}"))
    assert (found.tool, found.prompt, found.negative_prompt) == ("ComfyUI", "masterpiece", "bad hands")
    assert found.options == {
        **{"steps": 20, "cfg_scale": 8, "seed": 8566257, "sampler": "dpm++2m", "scheduler": "discrete"},
        **{"width": 512, "height": 640, "rng": "cpu"},
    }
    assert found.fields["Model"] == "v1-5.safetensors"
    circle = {**COMFY, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0]}}}
    assert metadata.read(picture(tmp_path, prompt=json.dumps(circle))).prompt == ""


def test_invokeai(tmp_path: Path) -> None:
    data = {
        **{"positive_prompt": "a cat", "negative_prompt": "dog", "width": 512, "height": 512, "seed": 1, "rand_device": "cpu"},
        **{"cfg_scale": 7.5, "steps": 30, "scheduler": "dpmpp_2m_k", "clip_skip": 0, "model": {"name": "x"}, "loras": []},
    }
    found = metadata.read(picture(tmp_path, invokeai_metadata=json.dumps(data)))
    assert (found.tool, found.prompt) == ("InvokeAI", "a cat")
    assert (found.options["sampler"], found.options["scheduler"], found.options["clip_skip"]) == ("dpm++2m", "karras", 1)
    assert found.options["rng"] == "cpu" and "loras" in found.unused


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a": NaN}',
        "[]",
        "null",
        '{"prompt": 1, "options": 5}',
        json.dumps({"options": {}, "prompt": "x"}),
    ],
)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    for key in ("sdcpp_py", "prompt", "invokeai_metadata", "parameters"):
        with pytest.raises(InvalidArgumentError, match="no parameters"):
            metadata.read(picture(tmp_path, **{key: text}))


def test_values_out_of_bounds_are_left_out(tmp_path: Path) -> None:
    found = metadata.of_text("x\nSteps: -3, Sampler: nonsense, CFG scale: inf, Seed: 1e99, Size: 0x0")
    assert found is not None and set(found.options) == {"rng"} and len(found.unused) >= 5
    own = json.dumps({"prompt": "x", "negative_prompt": "", "options": {"steps": "many", "new": 1}})
    assert metadata.read(picture(tmp_path, sdcpp_py=own)).unused == ["steps", "new"]


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(BadFileError, match="no picture"):
        metadata.read(tmp_path / "a.png")
    with pytest.raises(ModelNotFoundError):
        metadata.read(tmp_path / "b.png")
    whole = picture(tmp_path, parameters=A1111).read_bytes()
    (tmp_path / "c.png").write_bytes(whole[:40])
    with pytest.raises((BadFileError, InvalidArgumentError)):
        metadata.read(tmp_path / "c.png")


@pytest.mark.parametrize("ending", ["jpg", "webp", "png"])
def test_long_parameters_do_not_stop_saving(tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    for length, json_length in ((100, 60_000), (100_000, 100)):
        picture = Image.new("RGB", (8, 8))
        picture.info["parameters"] = "a" * length + "\nSteps: 3, Sampler: Euler, Seed: 1"
        picture.info[metadata.KEY] = json.dumps({"prompt": "b" * json_length, "negative_prompt": "", "options": {}})
        save(picture, tmp_path / f"a.{ending}")
        if ending == "jpg" and length > 100:
            assert "longer than a JPEG may hold" in caplog.text
        else:
            assert metadata.read(tmp_path / f"a.{ending}").prompt[0] in "ab"
