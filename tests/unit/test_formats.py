"""Every file format gives the same pictures as f32 safetensors, as far as its number format allows."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import tiny

import sdcpp_py
from sdcpp_py import sampling

ARGUMENTS = {"width": 64, "height": 64, "steps": 3, "seed": 1, "sampler": "euler"}


def unet_output(model, **options):
    x, context = sampling.noise((1, 4, 16, 16), 1), sampling.noise((1, 77, 32), 2)
    with sdcpp_py.Pipeline(model, **options) as made:
        return made.evaluate("unet", x=x, timesteps=np.array([300.0]), context=context)


@pytest.fixture(scope="module")
def exact(folder):
    return unet_output(folder)


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def bf16(array):
    return (array.view(np.uint32) >> 16).astype(np.uint16)


def f8_e4m3(array):
    """Nearest of the 256 values, by search."""
    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, bits & 7
    table = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0 ** (exponent - 10)) * np.where(bits & 128, -1, 1)
    table[[127, 255]] = 1e9
    order = np.argsort(table)
    middles = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(middles, array.ravel())].astype(np.uint8).reshape(array.shape)


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda a: a.astype(np.float16), 5e-3),
        (bf16, 5e-2),
        (f8_e4m3, 3e-1),
        (lambda a: a.astype(np.float64).astype(np.float32), 0),
    ],
)
def test_number_formats(tmp_path, exact, convert, tolerance):
    assert error(unet_output(tiny.write_folder(tmp_path, convert=convert)), exact) <= tolerance


@pytest.mark.parametrize(("wtype", "tolerance"), [("f32", 0), ("f16", 1e-2), ("bf16", 5e-2), ("q8_0", 5e-2), ("q4_0", 5e-1)])
def test_conversion_on_load(folder, exact, wtype, tolerance):
    assert error(unet_output(folder, wtype=wtype), exact) <= tolerance


def test_threads_do_not_change_the_numbers(folder, exact):
    assert np.array_equal(unet_output(folder, threads=1), exact)


def original_names(folder):
    from sdcpp_py import _model_info

    out = {}
    for part, file, prefix in (
        ("unet", "unet/diffusion_pytorch_model.safetensors", "model.diffusion_model."),
        ("vae", "vae/diffusion_pytorch_model.safetensors", "first_stage_model."),
        ("text_encoder", "text_encoder/model.safetensors", "cond_stage_model.transformer.text_model."),
    ):
        arrays = tiny.part(part)
        for entry in _model_info.summarize(folder / file, part="diffusion" if part == "unet" else part).tensors:
            out[prefix + entry.canonical.split(".", 1)[1]] = arrays[entry.name]
    return out


def test_original_naming_with_config_in_the_metadata(folder, tmp_path, exact):
    config = json.dumps({**tiny.configs(), "scheduler": tiny.NOISE})
    path = tiny.write_safetensors(tmp_path / "one.safetensors", original_names(folder), {"sdcpp.config": config})
    assert error(unet_output(path), exact) == 0


def test_original_naming_with_a_config_file(folder, tmp_path, exact):
    path = tiny.write_safetensors(tmp_path / "one.safetensors", original_names(folder))
    (tmp_path / "config.json").write_text(json.dumps(tiny.configs()))
    assert error(unet_output(path), exact) == 0


def test_shards(folder, tmp_path, exact):
    tensors = list(tiny.part("unet").items())
    model = tiny.write_folder(tmp_path)
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = {}
    for number in range(3):
        name = f"diffusion_pytorch_model-{number}.safetensors"
        tiny.write_safetensors(model / "unet" / name, dict(tensors[number::3]))
        index.update({key: name for key, _ in tensors[number::3]})
    (model / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert error(unet_output(model), exact) == 0


def test_shards_cannot_point_elsewhere(tmp_path):
    path = tmp_path / "x.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(sdcpp_py.errors.BadFileError, match="plain file name"):
        sdcpp_py.summarize(path)


class _Persistent:
    def __init__(self, storage):
        self.storage = storage


def write_torch_zip(path, tensors, extra=None):
    """A checkpoint as torch.save writes it, without torch: pickled rebuild calls with persistent storages."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return item.storage if isinstance(item, _Persistent) else None

    class Rebuild:
        def __init__(self, arguments):
            self.arguments = arguments

        def __reduce__(self):
            return torch_utils["_rebuild_tensor_v2"], self.arguments

    import sys
    import types

    torch_module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        pass

    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    torch_module.FloatStorage = FloatStorage

    def _rebuild_tensor_v2(*_):
        return None

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch_utils = {"_rebuild_tensor_v2": _rebuild_tensor_v2}
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch_module, "torch._utils": utils})
    try:
        state = {}
        for number, (name, array) in enumerate(tensors.items()):
            storage = _Persistent(("storage", FloatStorage, str(number), "cpu", array.size))
            strides = tuple(stride // 4 for stride in array.strides)
            state[name] = Rebuild((storage, 0, array.shape, strides, False, {}))
        buffer = io.BytesIO()
        Pickler(buffer, 2).dump({"state_dict": state, "epoch": 3, **(extra or {})})
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return path


def test_torch_zip(folder, tmp_path, exact):
    write_torch_zip(tmp_path / "one.ckpt", original_names(folder))
    (tmp_path / "config.json").write_text(json.dumps(tiny.configs()))
    assert error(unet_output(tmp_path / "one.ckpt"), exact) == 0


def write_gguf(path, tensors, metadata):
    """GGUF version 3 with f32 tensors."""

    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += text(key) + struct.pack("<I", 8) + text(value)
    at = 0
    for name, array in tensors.items():
        head += text(name) + struct.pack(f"<I{array.ndim}QIQ", array.ndim, *array.shape[::-1], 0, at)
        at += -(-array.nbytes // 32) * 32
    with path.open("wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        for array in tensors.values():
            out.write(array.tobytes() + b"\0" * (-array.nbytes % 32))
    return path


def test_gguf(folder, tmp_path, exact):
    path = write_gguf(tmp_path / "one.gguf", original_names(folder), {"sdcpp.config": json.dumps(tiny.configs())})
    assert error(unet_output(path), exact) == 0


@pytest.mark.parametrize("blas", [None, False])
def test_an_autoencoder_may_pass_what_f16_holds(tmp_path, blas):
    """Like SDXL's autoencoder: inside, values reach millions, and its weights are f16."""
    arrays = tiny.part("vae")
    arrays["decoder.mid_block.resnets.0.conv2.weight"] *= 5e4
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    z = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    decoded = []
    for number, kind in enumerate((np.float16, np.float32)):
        (tmp_path / str(number)).mkdir()
        path = tiny.write_safetensors(
            tmp_path / str(number) / "vae.safetensors", {name: array.astype(kind) for name, array in halves.items()}
        )
        (path.parent / "config.json").write_text(json.dumps(tiny.configs()["vae"]))
        with sdcpp_py.Pipeline(path, blas=blas) as pipeline:
            decoded.append(pipeline.evaluate("vae.decoder", x=z))
    assert np.isfinite(decoded[0]).all()
    assert error(decoded[0], decoded[1]) < 1e-3
