"""A device computes what the processor computes with the same weights in f32, within what their type allows."""

import numpy as np
import pytest

import sdcpp_py

# The difference at most, in root mean square over that of the values. A device may round what it multiplies to the weights' type,
# and may sum in f16 if they are f16.
TOLERANCES = {"bf16": 0.02, "f16": 0.01, "q8_0": 0.02}


def apart(ours, expected):
    assert ours.shape == expected.shape and np.isfinite(ours).all()
    return float(np.sqrt(((ours - expected) ** 2).mean() / (expected**2).mean()))


@pytest.mark.parametrize("wtype", TOLERANCES)
@pytest.mark.parametrize("name", ["sd1", "sdxl", "z-image", "flux.1"])
@pytest.mark.parametrize("batch", [1, 2])
def test_denoisers(typed, on_device, denoiser, name, wtype, batch):
    model = typed(name, wtype)
    with sdcpp_py.Pipeline(model, device="CPU") as pipeline:
        expected = denoiser(pipeline, name, batch)
    assert apart(denoiser(on_device(model), name, batch), expected) < TOLERANCES[wtype]


@pytest.mark.parametrize("wtype", TOLERANCES)
@pytest.mark.parametrize(("name", "network"), [("sdxl", "clip_l"), ("sdxl", "clip_g"), ("z-image", "llm"), ("flux.1", "t5")])
def test_text_encoders(typed, on_device, name, network, wtype):
    tokens = np.random.default_rng(1).integers(0, 32000, (2, 77)).astype(np.int32)
    model = typed(name, wtype)
    with sdcpp_py.Pipeline(model, device="CPU") as pipeline:
        expected = pipeline.evaluate(network, tokens=tokens)
    assert apart(on_device(model).evaluate(network, tokens=tokens), expected) < TOLERANCES[wtype]


@pytest.mark.parametrize("name", ["sdxl", "z-image"])
def test_autoencoders(models, on_device, name):
    channels = {"sdxl": 4, "z-image": 16}[name]
    latent = np.random.default_rng(1).standard_normal((1, channels, 16, 16), np.float32)
    picture = np.random.default_rng(2).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    ours = on_device(models[name])
    with sdcpp_py.Pipeline(models[name], device="CPU") as pipeline:
        for network, x in (("vae.decoder", latent), ("vae.encoder", picture)):
            assert apart(ours.evaluate(network, x=x), pipeline.evaluate(network, x=x)) < TOLERANCES["f16"]


def test_a_picture(on_device):
    options = {"width": 128, "height": 128, "steps": 4, "cfg_scale": 3.0, "seed": 5, "progress": False}
    with sdcpp_py.Pipeline(device="CPU") as pipeline:
        expected = pipeline.generate("a red circle", **options)
    ours = on_device(max_vram=0).generate("a red circle", **options)
    assert apart(ours.latents[0], expected.latents[0]) < 0.05
    pixels = [np.asarray(made.images[0], np.float64) for made in (ours, expected)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 4
