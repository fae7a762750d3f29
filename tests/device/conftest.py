"""The device under test, and pipelines on it. Run by hand or by .ci/vulkan: `pytest tests/device --device CUDA0`."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

import sdcpp_py
from sdcpp_py import convert

SPEEDS = (2e10, 2e9)  # so that plans do not depend on the machine
WIDER = 5


def pytest_addoption(parser):
    parser.addoption("--device", default="simulated", help="a name that `sdcpp devices` lists; simulated is the processor")


@pytest.fixture(scope="session")
def device(request):
    name = request.config.getoption("--device")
    names = [one.name.lower() for one in sdcpp_py.devices()]
    assert name.lower().startswith("simulated") or name.partition(":")[0].lower() in names, f"no {name}; there are {names}"
    return name


@pytest.fixture
def on_device(device):
    """Opens a model on the device; it is closed when the test ends."""
    opened = []

    def open_model(model=None, **options):
        opened.append(sdcpp_py.Pipeline(model, device=device, **{"link_speed": SPEEDS, **options}))
        return opened[-1]

    yield open_model
    for pipeline in opened:
        pipeline.close()


def wider(name, shape):
    """The shape with `WIDER` times the channels. The text's stay, and so do latents and kernels."""
    kept_sides = (1,) if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) else ()
    return tuple(side * WIDER if side >= 16 and at not in kept_sides else side for at, side in enumerate(shape))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of f32 weights: "sd1" with rows of 160 and 320 values, "sdxl", "z-image", "flux.1"; None is the embedded model."""
    root = tmp_path_factory.mktemp("models")
    made = {family: tiny.write_family(root / family, family) for family in ("sdxl", "z-image", "flux.1")}
    made["sd1"] = tiny.write_folder(root / "sd1")
    wide = {name: tiny.values(f"unet.{name}", wider(name, shape)) for name, shape in tiny.shapes()["unet"].items()}
    tiny.write_safetensors(made["sd1"] / "unet" / "diffusion_pytorch_model.safetensors", wide)
    return {**made, "embedded": None}


@pytest.fixture(scope="session")
def typed(models, tmp_path_factory):
    """A model's weights in a type, as a file: quantized once for all tests."""
    root, made = tmp_path_factory.mktemp("typed"), {}

    def typed_model(name, wtype):
        if (name, wtype) not in made:
            source = models[name] or sdcpp_py._embedded.embedded_model()
            made[name, wtype] = convert(source, root / f"{name}-{wtype}.gguf", wtype=wtype, progress=False)
        return made[name, wtype]

    return typed_model


_STATES = {"embedded": (4, 96, 0), "sd1": (4, 32, 0), "sdxl": (4, 64, 32), "z-image": (16, 32, 0), "flux.1": (16, 40, 32)}
NETWORKS = {"embedded": "unet", "sd1": "unet", "sdxl": "unet", "z-image": "z_image", "flux.1": "flux"}


def inputs(name, batch=1, side=16):
    """For the model's denoiser, always the same."""
    channels, context, pooled = _STATES[name]
    rng = np.random.default_rng(1)
    found = {
        "x": rng.standard_normal((batch, channels, side, side), np.float32),
        "timesteps": np.full(batch, 500.0, np.float32),
        "context": rng.standard_normal((batch, 77, context), np.float32),
    }
    found |= {"pooled": rng.standard_normal((batch, pooled), np.float32)} if pooled else {}
    return found | ({"guidance": np.full(batch, 3.5, np.float32)} if name == "flux.1" else {})


@pytest.fixture(scope="session")
def denoiser():
    """Runs a pipeline's denoiser: `denoiser(pipeline, name, batch)`."""

    def run(pipeline, name, batch=1, side=16):
        return pipeline.evaluate(NETWORKS[name], **inputs(name, batch, side))

    return run


@pytest.fixture(scope="session")
def least_gib(device):
    """The smallest budget, in GiB, under which the model's denoiser runs by a policy."""
    found = {}

    def least(model, name, policy, batch=1, side=16):
        key = (str(model), policy, batch, side)
        if key not in found:
            with (
                sdcpp_py.Pipeline(model, device=device, max_vram=1e-6, plan_policy=policy, link_speed=SPEEDS) as pipeline,
                pytest.raises(sdcpp_py.errors.OverBudgetError) as caught,
            ):
                pipeline.evaluate(NETWORKS[name], **inputs(name, batch, side))
            found[key] = caught.value.least_bytes / 2**30
        return found[key]

    return least
