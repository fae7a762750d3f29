"""Results equal the reference libraries' for the same weights and noise (goldens: tests/oracle/write_goldens.py)."""

import gzip
import json

import numpy as np
import pytest
import tiny

import sdcpp_py
from sdcpp_py import _blas, sampling
from sdcpp_py.text import _clip_tokenizer


@pytest.fixture(scope="module", params=[True, False], ids=["blas", "ggml"])
def pipeline(folder, request):
    """On the CPU operations of our own and on ggml's."""
    assert _blas.choose(request.param)[0] or not request.param
    with sdcpp_py.Pipeline(folder, taesd=folder / "taesd.safetensors", blas=request.param) as made:
        yield made


@pytest.fixture(scope="module", params=[True, False], ids=["blas", "ggml"])
def families(tmp_path_factory, request):
    made = {
        family: sdcpp_py.Pipeline(tiny.write_family(tmp_path_factory.mktemp(family), family), blas=request.param)
        for family in ("sdxl", "z-image", "flux.1")
    }
    yield made
    for pipeline in made.values():
        pipeline.close()


def noise(seed, *shape):
    return sampling.noise(shape, seed)


def relative_error(ours, expected):
    expected = expected.astype(np.float32)
    return np.abs(ours.reshape(expected.shape) - expected).max() / np.abs(expected).max()


def test_text_encoder(pipeline, goldens):
    assert relative_error(pipeline.prompt_states("a red circle left of a blue square"), goldens["clip"]) < 1e-4


def test_unet(pipeline, goldens):
    t = np.array([3.0, 870.0])
    ours = pipeline.evaluate("unet", x=noise(1, 2, 4, 16, 12), timesteps=t, context=noise(2, 2, 77, 32))
    assert relative_error(ours, goldens["unet"]) < 1e-4


def test_autoencoders(pipeline, goldens):
    z, x = noise(3, 1, 4, 8, 12), noise(4, 1, 3, 64, 96).clip(-1, 1)
    half = 1e-3  # goldens hold pictures as f16
    assert relative_error(pipeline.evaluate("vae.decoder", x=z), goldens["vae_decoder"]) < half
    assert relative_error(pipeline.evaluate("vae.encoder", x=x), goldens["vae_encoder"]) < 1e-4
    assert relative_error(pipeline.evaluate("taesd.decoder", x=z) * 2 - 1, goldens["taesd_decoder"]) < half
    assert relative_error(pipeline.evaluate("taesd.encoder", x=x / 2 + 0.5), goldens["taesd_encoder"]) < 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pictures(tmp_path, goldens, prediction):
    with sdcpp_py.Pipeline(tiny.write_folder(tmp_path, prediction)) as ours:
        found = ours.generate(
            "a red circle",
            negative_prompt="blurry",
            cfg_scale=4,
            noise=noise(21, 4, 8, 8),
            steps=10,
            width=64,
            height=64,
            sampler="euler",
            scheduler="discrete",
        ).images[0]
    difference = np.abs(np.asarray(found).astype(int) - goldens[f"picture_{prediction}"])
    assert (difference.max(-1) <= 1).mean() >= 0.999


def denoise(x, sigma):
    return np.tanh(0.7 * x / (1 + sigma * sigma) ** 0.5) + 0.1 * x / (1 + sigma)


@pytest.mark.parametrize("name", ["euler", "heun", "dpm2", "dpm++2m", "lms", "euler_a", "dpm++2s_a", "dpm++2m_sde"])
def test_samplers(goldens, name):
    sigmas = sampling.sigmas("karras", 9)
    ours = sampling.sample(denoise, noise(5, 1, 4, 8, 8) * sigmas[0], sigmas, sampler=name, seed=3)
    assert relative_error(ours, goldens["sampler_" + name]) < 1e-5


def test_cpu_noise_is_torchs(goldens):
    assert np.abs(sampling.noise((1000,), 42, rng="cpu") - goldens["torch_cpu_noise"]).max() < 2e-6
    assert np.abs(sampling.noise((9,), 42, rng="cpu") - goldens["torch_cpu_noise_short"]).max() < 2e-6


def test_cuda_noise_is_philox():
    """Published: torch.randn(4, generator=torch.Generator("cuda").manual_seed(0)), as A1111's rng_philox documents it."""
    expected = [-0.92466259, -0.42534415, -2.6438457, 0.14518388]
    assert np.allclose(sampling.noise((4,), 0, rng="cuda"), expected, atol=1e-6)


def test_tokens_equal_transformers():
    pairs = json.loads(gzip.decompress((tiny.GOLDENS / "tokens.json.gz").read_bytes()))
    assert len(pairs) >= 500
    for text, ids in pairs:
        assert _clip_tokenizer.encode(text) == ids, repr(text)


def test_sdxl_networks(families, goldens):
    ids = np.random.RandomState(1).randint(0, 49406, (2, 77))
    sdxl = families["sdxl"]
    assert relative_error(sdxl.evaluate("clip_g", tokens=ids), goldens["clip_g"]) < 1e-4
    inputs = {"x": noise(5, 2, 4, 16, 12), "context": noise(6, 2, 77, 64), "pooled": noise(7, 2, 32)}
    found = sdxl.evaluate("unet", timesteps=np.array([30.0, 870.0]), **inputs)
    assert relative_error(found, goldens["xl_unet"]) < 1e-4


def test_z_image_networks(families, goldens):
    ids = np.random.RandomState(1).randint(0, 49406, (2, 77))[:, :41]
    z_image = families["z-image"]
    assert relative_error(z_image.evaluate("llm", tokens=ids), goldens["llm"]) < 1e-4
    inputs = {"x": noise(8, 2, 16, 12, 20), "context": noise(9, 2, 41, 32)}
    found = z_image.evaluate("z_image", timesteps=np.array([30.0, 870.0]), **inputs)
    assert relative_error(found, goldens["z_image"]) < 1e-4


def test_flux_networks(families, goldens):
    ids = np.random.RandomState(1).randint(0, 49406, (2, 77))[:, :41] % 32000
    flux = families["flux.1"]
    assert relative_error(flux.evaluate("t5", tokens=ids), goldens["t5"]) < 1e-4
    inputs = {"x": noise(8, 2, 16, 12, 20), "context": noise(10, 2, 41, 40), "pooled": noise(11, 2, 32)}
    found = flux.evaluate("flux", timesteps=np.array([30.0, 870.0]), guidance=np.array([3.5, 2.0]), **inputs)
    assert relative_error(found, goldens["flux"]) < 1e-4


@pytest.mark.parametrize(
    ("family", "network", "golden", "context"),
    [
        ("chroma", "flux", "chroma", (14, 2, 21, 40)),
        ("flux.2", "flux_2", "flux_2", (15, 2, 21, 96)),
        ("krea-2", "krea", "krea", (16, 2, 21, 12 * 24)),
        ("qwen-image", "qwen_image", "qwen_image", (17, 2, 21, 40)),
    ],
)
def test_later_transformers(tmp_path, goldens, family, network, golden, context):
    x = noise(13, 2, 128, 3, 5) if network == "flux_2" else noise(12, 2, 16, 6, 10)
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, family)) as model:
        found = model.evaluate(network, x=x, context=noise(*context), timesteps=np.array([30.0, 870.0]))
    assert relative_error(found, goldens[golden]) < 1e-4


def test_the_autoencoder_of_wan(tmp_path, goldens):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, "krea-2")) as model:
        decoded = model.evaluate("wan_vae.decoder", x=noise(12, 2, 16, 6, 10)[:1]).clip(-1, 1)
        encoded = model.evaluate("wan_vae.encoder", x=noise(18, 1, 3, 1, 32, 48)[:, :, 0].clip(-1, 1))
    assert relative_error(decoded, goldens["wan_vae_decoder"].astype(np.float32)) < 2e-3
    assert relative_error(encoded, goldens["wan_vae_encoder"]) < 1e-4
