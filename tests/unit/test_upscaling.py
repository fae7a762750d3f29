"""Upscalers: the networks against numpy, tiles, names, files that are none; hires fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from sdcpp_py import Pipeline, StableDiffusion, summarize
from sdcpp_py._hires import enlarged_latent, second_pass
from sdcpp_py.cli import main
from sdcpp_py.errors import BadFileError, InvalidArgumentError, MissingPartError, SdcppError, UnsupportedModelError

RNG = np.random.default_rng(5)
WIDTH, GROWTH = 8, 4


def conv(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A convolution of [C, H, W] with zeros around."""
    pad = w.shape[2] // 2
    around = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((w.shape[0], *x.shape[1:]))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            out += np.einsum("oc,chw->ohw", w[:, :, i, j], around[:, i : i + x.shape[1], j : j + x.shape[2]])
    return out + b[:, None, None]


def layer(out: int, into: int, size: int = 3) -> dict[str, np.ndarray]:
    scale = 0.6 / np.sqrt(into * size * size)
    return {
        "weight": (RNG.standard_normal((out, into, size, size)) * scale).astype(np.float32),
        "bias": (RNG.standard_normal(out) * 0.1).astype(np.float32),
    }


def named(layers: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{name}.{key}": value for name, parts in layers.items() for key, value in parts.items()}


def esrgan(ups: int = 2, colours: int = 3, blocks: int = 2) -> dict[str, np.ndarray]:
    layers = {"conv_first": layer(WIDTH, colours), "conv_body": layer(WIDTH, WIDTH), "conv_hr": layer(WIDTH, WIDTH)}
    layers |= {"conv_last": layer(3, WIDTH)} | {f"conv_up{n + 1}": layer(WIDTH, WIDTH) for n in range(ups)}
    for block in range(blocks):
        for part in (1, 2, 3):
            for number in range(1, 6):
                out = WIDTH if number == 5 else GROWTH
                layers[f"body.{block}.rdb{part}.conv{number}"] = layer(out, WIDTH + (number - 1) * GROWTH)
    return named(layers)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def esrgan_in_numpy(w: dict[str, np.ndarray], x: np.ndarray, shuffle: int = 1) -> np.ndarray:
    def c(name: str, value: np.ndarray) -> np.ndarray:
        return conv(value, w[f"{name}.weight"], w[f"{name}.bias"])

    height, width = x.shape[1:]
    if shuffle > 1:
        x = x.reshape(3, height // shuffle, shuffle, width // shuffle, shuffle).transpose(0, 2, 4, 1, 3)
        x = x.reshape(-1, height // shuffle, width // shuffle)
    first = y = c("conv_first", x)
    block = 0
    while f"body.{block}.rdb1.conv1.weight" in w:
        outer = y
        for part in (1, 2, 3):
            seen = inner = y
            for number in range(1, 5):
                seen = np.concatenate([seen, leaky(c(f"body.{block}.rdb{part}.conv{number}", seen))])
            y = inner + 0.2 * c(f"body.{block}.rdb{part}.conv5", seen)
        y = outer + 0.2 * y
        block += 1
    y = first + c("conv_body", y)
    number = 1
    while f"conv_up{number}.weight" in w:
        y = leaky(c(f"conv_up{number}", y.repeat(2, 1).repeat(2, 2)))
        number += 1
    return c("conv_last", leaky(c("conv_hr", y)))


def srvgg(scale: int = 3, convs: int = 2) -> dict[str, np.ndarray]:
    layers: dict[str, dict[str, np.ndarray]] = {"body.0": layer(WIDTH, 3)}
    for number in range(convs):
        layers[f"body.{2 * number + 2}"] = layer(WIDTH, WIDTH)
    for number in range(convs + 1):
        layers[f"body.{2 * number + 1}"] = {"weight": RNG.uniform(-0.2, 0.4, WIDTH).astype(np.float32)}
    layers[f"body.{2 * convs + 2}"] = layer(3 * scale * scale, WIDTH)
    return named(layers)


def srvgg_in_numpy(w: dict[str, np.ndarray], x: np.ndarray, scale: int = 3) -> np.ndarray:
    y, number = x, 0
    while f"body.{number + 1}.weight" in w:
        y = conv(y, w[f"body.{number}.weight"], w[f"body.{number}.bias"])
        y = np.where(y > 0, y, y * w[f"body.{number + 1}.weight"][:, None, None])
        number += 2
    y = conv(y, w[f"body.{number}.weight"], w[f"body.{number}.bias"])
    _, height, width = y.shape
    y = y.reshape(3, scale, scale, height, width).transpose(0, 3, 1, 4, 2).reshape(3, height * scale, width * scale)
    return y + x.repeat(scale, 1).repeat(scale, 2)


def picture(width: int = 20, height: int = 14) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def as_pixels(planes: np.ndarray) -> np.ndarray:
    return np.clip(planes.transpose(1, 2, 0) * 255, 0, 255)


def planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1) / 255.0


def enlarge(path: Path, pixels: np.ndarray, **more: object) -> np.ndarray:
    with Pipeline(upscaler=path) as pipe:
        return np.asarray(pipe.upscale(pixels, **more), np.float64)  # type: ignore[arg-type]


def old_names(weights: dict[str, np.ndarray], blocks: int, ups: int) -> dict[str, np.ndarray]:
    """The first files' names."""
    last = 3 * ups + 2
    numbers = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_hr": str(last), "conv_last": str(last + 2)}
    numbers |= {f"conv_up{n}": str(3 * n) for n in range(1, ups + 1)}
    out = {}
    for name, value in weights.items():
        stem, ending = name.rsplit(".", 1)
        if stem in numbers:
            out[f"model.{numbers[stem]}.{ending}"] = value
        else:
            out[f"model.1.sub.{stem.removeprefix('body.').replace('rdb', 'RDB')}.0.{ending}"] = value
    return out


def bsrgan_names(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    pairs = (("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), ("rdb", "RDB"), ("conv_up", "upconv"), ("conv_hr", "HRconv"))
    return tiny.rename(weights, pairs)


def test_esrgan_is_its_formula_under_all_of_its_names(tmp_path: Path) -> None:
    weights, pixels = esrgan(), picture()
    wanted = as_pixels(esrgan_in_numpy(weights, planes(pixels)))
    every = {"new": weights, "old": old_names(weights, 2, 2), "bsrgan": bsrgan_names(weights)}
    every["ema"] = {f"params_ema.{name}": value for name, value in weights.items()}
    for name, tensors in every.items():
        path = tiny.write_safetensors(tmp_path / f"{name}.safetensors", tensors)
        found = enlarge(path, pixels)
        assert found.shape == (56, 80, 3)
        assert np.abs(found - wanted).max() < 0.51, name
        assert summarize(path).option == "upscaler" and not summarize(path).unused


@pytest.mark.parametrize(("ups", "shuffle"), [(0, 1), (1, 1), (2, 2), (2, 4)])
def test_other_factors(tmp_path: Path, ups: int, shuffle: int) -> None:
    weights, pixels = esrgan(ups, 3 * shuffle * shuffle, 1), picture(24, 12)
    path = tiny.write_safetensors(tmp_path / "x.safetensors", weights)
    wanted = as_pixels(esrgan_in_numpy(weights, planes(pixels), shuffle))
    assert np.abs(enlarge(path, pixels) - wanted).max() < 0.51


def test_srvgg_is_its_formula(tmp_path: Path) -> None:
    weights, pixels = srvgg(), picture()
    path = tiny.write_safetensors(tmp_path / "x.safetensors", {f"params.{name}": value for name, value in weights.items()})
    wanted = as_pixels(srvgg_in_numpy(weights, planes(pixels)))
    assert np.abs(enlarge(path, pixels) - wanted).max() < 0.51


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_safetensors(tmp_path_factory.mktemp("up") / "x2.safetensors", esrgan(2, 12, 1))


def test_sizes_alpha_and_repeats(upscaler: Path) -> None:
    with Pipeline(upscaler=upscaler) as pipe:
        assert pipe.upscale_factor == 2
        for width, height in ((1, 1), (1, 9), (7, 3), (33, 18)):
            assert pipe.upscale(picture(width, height)).size == (2 * width, 2 * height)
        assert pipe.upscale(picture(8, 6), repeats=2).size == (32, 24)
        assert pipe.upscale(picture(8, 6), width=20).size == (20, 15)
        clear = Image.fromarray(picture(8, 8)).convert("RGBA")
        clear.putalpha(Image.new("L", (8, 8), 77))
        larger = pipe.upscale(clear)
        assert larger.mode == "RGBA" and larger.getpixel((5, 5))[3] == 77  # type: ignore[index]
        for wrong in ({"repeats": 0}, {"repeats": 9}, {"width": 0}, {"upscale_tile_size": 3}, {"upscale_tile_size": 33}):
            with pytest.raises(InvalidArgumentError):
                pipe.upscale(picture(), **wrong)  # type: ignore[arg-type]


def test_tiles_are_the_whole_but_for_their_borders(upscaler: Path) -> None:
    smooth = np.add.outer(np.arange(150), np.arange(170))[..., None] % 256 + np.zeros(3)
    pixels = smooth.astype(np.uint8)
    with Pipeline(upscaler=upscaler) as pipe:
        whole, tiled = (np.asarray(pipe.upscale(pixels, upscale_tile_size=size), int) for size in (None, 64))
    assert whole.shape == tiled.shape == (300, 340, 3)
    assert np.abs(whole - tiled).max() <= 1


def test_streamed_upscalers_give_the_same(upscaler: Path) -> None:
    pixels = picture(64, 64)
    with Pipeline(upscaler=upscaler) as pipe:
        wanted = np.asarray(pipe.upscale(pixels))
    for policy in ("pipelined", "capped"):
        with Pipeline(upscaler=upscaler, device="simulated:vram=1,link=12", max_vram=0.004, plan_policy=policy) as pipe:
            assert np.array_equal(np.asarray(pipe.upscale(pixels, upscale_tile_size=None)), wanted), policy


def test_what_is_no_upscaler_is_told(tmp_path: Path, upscaler: Path) -> None:
    with Pipeline() as pipe, pytest.raises(MissingPartError, match="no upscaler"):
        pipe.upscale(picture())
    with pytest.raises(SdcppError, match="is an embedding"):
        Pipeline(upscaler=tiny.write_safetensors(tmp_path / "a.safetensors", {"emb_params": np.ones((1, 4), np.float32)}))
    with pytest.raises(MissingPartError, match="only a"):
        Pipeline(upscaler).generate("x")
    wide = esrgan()
    wide["conv_first.weight"] = np.zeros((WIDTH, 5, 3, 3), np.float32)
    with pytest.raises(UnsupportedModelError, match="5 input channels"):
        Pipeline(upscaler=tiny.write_safetensors(tmp_path / "b.safetensors", wide))
    with Pipeline(upscaler=upscaler) as pipe:
        with pytest.raises(InvalidArgumentError, match="times larger"):
            pipe.upscale(np.zeros((1, 9000, 3), np.uint8))
        with pytest.raises(BadFileError):
            pipe.upscale(str(upscaler))
        assert pipe.upscale(picture(4, 4)).size == (8, 8)


def test_the_command(tmp_path: Path, upscaler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture(8, 6)).save(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "--upscale-model", str(upscaler)]) == 0
    assert Image.open(tmp_path / "a_x2.png").size == (16, 12)
    assert main(["upscale", str(tmp_path / "a.png"), "--upscale-model", str(upscaler), "-o", str(tmp_path / "no" / "b.png")]) == 1
    assert "does not exist" in capsys.readouterr().err


SETTINGS = {"width": 64, "height": 64, "steps": 3, "seed": 5, "sampler": "euler"}
PROMPT = "a large red circle on a white background"


@pytest.mark.parametrize(
    ("steps", "hires_steps", "strength", "evaluations"), [(20, 4, 0.7, 4), (20, 5, 0.5, 6), (20, 2, 0.4, 3), (2, None, 0.7, 2)]
)
def test_a_second_passs_steps_are_stable_diffusion_cpps(
    steps: int, hires_steps: int | None, strength: float, evaluations: int
) -> None:
    used = {"width": 64, "height": 64, "steps": steps, "hires_scale": 1.5, "hires_denoising_strength": strength}
    used |= {"hires_steps": hires_steps, "hires_upscaler": "latent"}
    found = second_pass(used, 64)
    assert found.run == evaluations and (found.width, found.height) == (128, 128)
    exact = second_pass({**used, "hires_exact_steps": True}, 64)
    assert exact.run == (hires_steps or steps)


def test_hires_is_two_passes(upscaler: Path) -> None:
    with Pipeline(upscaler=upscaler) as pipe:
        seen: list[tuple[int, int]] = []
        shapes: list[tuple[int, ...]] = []

        def watch(step: object) -> None:
            seen.append((step.step, step.steps))  # type: ignore[attr-defined]
            shapes.append(step.latent.shape)  # type: ignore[attr-defined]

        result = pipe.generate(PROMPT, hires=True, callback=watch, **SETTINGS)  # type: ignore[arg-type]
        assert result.image.size == (128, 128) and result.latents[0].shape[1:] == (16, 16)
        assert seen == [(1, 3), (2, 3), (3, 3), (1, 3), (2, 3), (3, 3)] and shapes[3][1:] == (16, 16)
        first = pipe.generate(PROMPT, **SETTINGS)  # type: ignore[arg-type]
        larger = enlarged_latent(first.latents[0], 16, 16, "latent")
        by_hand = pipe.generate(PROMPT, init_latent=larger, strength=0.7, **{**SETTINGS, "steps": 4, "width": 128, "height": 128})  # type: ignore[arg-type]
        assert np.array_equal(by_hand.latents[0], result.latents[0])
        again = pipe.generate(**result.parameters)
        assert np.array_equal(again.latents[0], result.latents[0])
        assert "Hires upscale: 2, " in result.image.info["parameters"]
        for name in ("latent_nearest", "latent_bicubic", "lanczos", "model"):
            other = pipe.generate(PROMPT, hires=True, hires_upscaler=name, **SETTINGS)  # type: ignore[arg-type]
            assert other.image.size == (128, 128) and not np.array_equal(other.latents[0], result.latents[0])
        both = pipe.generate(PROMPT, hires=True, batch_count=2, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(both.latents[0], result.latents[0])
        with pytest.raises(InvalidArgumentError, match="larger"):
            pipe.generate(PROMPT, hires=True, hires_width=32, hires_height=32, width=128, height=128)
        with pytest.raises(InvalidArgumentError, match="mask"):
            start = Image.new("RGB", (64, 64))
            pipe.generate(PROMPT, hires=True, init_image=start, mask_image=Image.new("L", (64, 64), 255), **SETTINGS)  # type: ignore[arg-type]
    with Pipeline() as pipe, pytest.raises(MissingPartError, match="upscaler"):
        pipe.generate(PROMPT, hires=True, hires_upscaler="model", **SETTINGS)  # type: ignore[arg-type]


def test_latents_are_enlarged_as_named() -> None:
    latent = RNG.standard_normal((4, 3, 5)).astype(np.float32)
    for name in ("latent", "latent_nearest", "latent_nearest_exact", "latent_bicubic", "latent_bicubic_antialiased"):
        assert enlarged_latent(latent, 6, 11, name).shape == (4, 6, 11)
        assert np.allclose(enlarged_latent(np.full_like(latent, 0.5), 6, 11, name), 0.5, atol=1e-6)
    assert np.array_equal(enlarged_latent(latent, 6, 10, "latent_nearest"), latent.repeat(2, 1).repeat(2, 2))


def test_a_prompt_counts_on_in_the_second_pass() -> None:
    with Pipeline() as pipe:
        late = f"[{PROMPT}:a large blue square on a white background:1.5]"
        plain = pipe.generate(PROMPT, hires=True, **SETTINGS)  # type: ignore[arg-type]
        edited = pipe.generate(late, hires=True, **SETTINGS)  # type: ignore[arg-type]
        assert not np.array_equal(plain.latents[0], edited.latents[0])
        assert np.array_equal(pipe.generate(late, **SETTINGS).latents[0], pipe.generate(PROMPT, **SETTINGS).latents[0])  # type: ignore[arg-type]


def test_a_run_in_two_halves_is_the_run(tmp_path: Path) -> None:
    with Pipeline() as pipe:
        whole = pipe.generate(PROMPT, **{**SETTINGS, "steps": 8})  # type: ignore[arg-type]
        seen: list[int] = []
        first = pipe.generate(PROMPT, denoising_end=0.6, callback=lambda s: seen.append(s.steps), **{**SETTINGS, "steps": 8})  # type: ignore[arg-type]
        rest = pipe.generate(PROMPT, denoising_start=0.6, init_latent=first.latents[0], **{**SETTINGS, "steps": 8})  # type: ignore[arg-type]
        assert 0 < seen[0] < 8
        assert np.allclose(rest.latents[0], whole.latents[0], atol=1e-5)
        with pytest.raises(InvalidArgumentError, match="needs init_latent"):
            pipe.generate(PROMPT, denoising_start=0.6, **SETTINGS)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="below denoising_end"):
            pipe.generate(PROMPT, denoising_start=0.6, denoising_end=0.5, init_latent=first.latents[0], **SETTINGS)  # type: ignore[arg-type]


def test_the_facades_upscaler_hires_and_previews(upscaler: Path) -> None:
    with StableDiffusion(upscaler_path=str(upscaler)) as model:
        done: list[tuple[int, int]] = []
        larger = model.upscale([picture(8, 6), picture(4, 4)], 4, lambda number, count, seconds: done.append((number, count)))
        assert [one.size for one in larger] == [(32, 24), (16, 16)] and done == [(1, 2), (2, 2)]
        seen: list[tuple[int, tuple[int, int]]] = []

        def preview(step: int, images: list[Image.Image], noisy: bool) -> None:
            seen.append((step, images[0].size))

        made = model.generate_image(
            PROMPT,
            width=64,
            height=64,
            sample_steps=2,
            hires=True,
            upscale_factor=2,
            preview_method="proj",
            preview_callback=preview,
        )
        assert made[0].size == (256, 256) and made[0].info["hires_scale"] == 2.0
        assert seen[:2] == [(1, (8, 8)), (2, (8, 8))] and seen[-1][1] == (16, 16)
        with pytest.raises(InvalidArgumentError, match="hires_path"):
            model.generate_image(PROMPT, hires=True, hires_path="x")
