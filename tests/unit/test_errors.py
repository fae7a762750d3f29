"""Bad input gets an exception of its own that says what to do, and nothing is lost."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny

import sdcpp_py
from sdcpp_py import errors

SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        *(("width", value, "width") for value in (0, -64, 400000, 65, 64.5, "64", True)),
        *(("height", value, "height") for value in (0, -8, 100)),
        *(("steps", value, "steps") for value in (0, -3, 10**9, 2.5)),
        *(("batch_count", value, "batch_count") for value in (0, -1)),
        *(("cfg_scale", value, "cfg_scale") for value in (float("nan"), float("inf"), -1, "x")),
        ("clip_skip", 99, "1 to 3"),
        ("clip_skip", 0, "1 to 3"),
        ("sampler", "euler_b", "euler_a"),
        ("sampler", 7, "unknown sampler"),
        ("scheduler", "karas", "karras"),
        ("eta", 2, "eta"),
        ("seed", "x", "seed"),
        ("noise", np.zeros((4, 3, 3)), "shape"),
        ("noise", np.full((4, 8, 8), np.nan), "finite"),
        ("vae_tile_size", 1, "vae_tile_size"),
        ("vae_tile_overlap", 0.9, "vae_tile_overlap"),
    ],
)
def test_options_are_checked_before_anything_is_computed(pipeline, option, value, says):
    with pytest.raises(errors.InvalidArgumentError, match=says):
        pipeline.generate("x", **{**SMALL, option: value})
    assert pipeline.generate("x", **SMALL).images


def test_facade_checks_strength(folder):
    with sdcpp_py.StableDiffusion(folder) as model, pytest.raises(ValueError, match="strength"):
        model.generate_image("x", width=64, height=64, strength=7)


@pytest.mark.parametrize("value", ["much", "1e9", float("nan"), True, "CPU=x", [4]])
def test_a_budget_that_is_no_number_of_gib_is_refused(folder, value):
    with pytest.raises(errors.InvalidArgumentError, match="max_vram"):
        sdcpp_py.Pipeline(folder, max_vram=value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"wtype": "q9"}, "did you mean"),
        ({"device": "cuda9"}, "CPU"),
        ({"rng": "dice"}, "cuda"),
        ({"wtype": 8}, "wtype must be a str"),
        ({"device": None}, "device must be a str"),
        ({"vae": 3}, "no path"),
        ({"threads": 0}, "threads"),
        ({"threads": 100000}, "threads"),
    ],
)
def test_model_options(folder, options, says):
    with pytest.raises(errors.InvalidArgumentError, match=says):
        sdcpp_py.Pipeline(folder, **options)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        sdcpp_py.Pipeline("/no-such-file.safetensors")
    with pytest.raises(errors.SdcppError):
        sdcpp_py.Pipeline("nul\0inside")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello", "neither safetensors"),
        (b"<html>not a model</html>", "is a web page"),
        (struct.pack("<Q", 1 << 60) + b"{}", "truncated"),
        (struct.pack("<Q", 2) + b"{]", "JSON"),
        (struct.pack("<Q", 2) + b"{}", "none of the known networks"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "truncated"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"PK\x03\x04" + b"\0" * 40, "zip"),
        (b"\x80\x02}q\x00.", "pickle"),
    ],
)
def test_damaged_files(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(errors.SdcppError, match=says):
        sdcpp_py.Pipeline(path)


@pytest.mark.skipif(
    os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > 48 << 30, reason="the picture would fit into this machine's memory"
)
def test_what_cannot_fit_is_refused_before_memory_is_taken(pipeline):
    with pytest.raises(errors.OutOfMemoryError, match="for computing"):
        pipeline.decode(np.zeros((4, 2048, 2048), np.float32), vae_tiling=False)
    assert pipeline.generate("x", **SMALL).images


@pytest.mark.parametrize("prompt", ["\ud800", None, b"x", 7])
def test_prompts_that_are_no_text(pipeline, prompt):
    with pytest.raises(errors.InvalidArgumentError, match="prompt"):
        pipeline.generate(prompt, **SMALL)


def test_a_truncated_file_says_so(folder, tmp_path):
    whole = (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[:-1000])
    with pytest.raises(errors.BadFileError, match="truncated"):
        sdcpp_py.Pipeline(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}',
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[12,4]}}',
        '{"a":{"dtype":"F32","shape":[4.5],"data_offsets":[0,16]}}',
        '{"a":7}',
    ],
)
def test_lying_headers(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 16)
    with pytest.raises(errors.BadFileError):
        sdcpp_py.summarize(path)


def test_an_absent_part_is_named(folder):
    with (
        sdcpp_py.Pipeline(folder / "unet" / "diffusion_pytorch_model.safetensors") as only_unet,
        pytest.raises(errors.MissingPartError, match="text encoder"),
    ):
        only_unet.generate("x", **SMALL)


def test_errors_spell_options_as_python_does(folder):
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    with sdcpp_py.Pipeline(unet, text_encoders=folder / "text_encoder" / "model.safetensors") as no_vae:
        with pytest.raises(errors.MissingPartError, match=r"has no VAE decoder, .*; give one with vae=…$"):
            no_vae.generate("x", **SMALL)
        with pytest.raises(errors.MissingPartError, match=r"\(taesd.decoder\); give one with taesd=…$"):
            no_vae.decode(np.zeros((4, 8, 8)), use_taesd=True)
    with pytest.raises(errors.OverBudgetError, match=r"; max_vram=0\.[0-9]+ \(GiB\) is enough; ") as caught:
        sdcpp_py.Pipeline(max_vram=1e-4, device="CPU").plan()
    assert caught.value.option.startswith("max_vram=0.")


def test_a_wrong_shape_is_named(folder, tmp_path):
    tensors = tiny.part("unet")
    tensors["conv_out.bias"] = np.zeros(9, np.float32)
    path = tiny.write_safetensors(tmp_path / "unet.safetensors", tensors)
    with pytest.raises(errors.UnsupportedModelError, match=r"out\.2\.bias has shape \[9\], expected \[4\]"):
        sdcpp_py.Pipeline(path)


def test_nan_weights_are_found(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    tensors = tiny.part("unet")
    tensors["conv_out.bias"][:] = np.nan
    tiny.write_safetensors(tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors", tensors)
    with sdcpp_py.Pipeline(tmp_path / "m") as broken, pytest.raises(errors.NotFiniteError, match="try wtype='f32'"):
        broken.generate("x", **SMALL)


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("use", ["decode", "encode", "generate", "plan", "take_profile", "prompt_states"])
def test_the_pipeline_is_busy_within_its_own_callback(pipeline, use, thread):
    arguments = {"decode": [np.zeros((4, 8, 8), np.float32)], "encode": [np.zeros((64, 64, 3), np.uint8)]}
    arguments |= {"generate": ["x"], "prompt_states": ["x"]}
    raised = []

    def generate():
        try:
            pipeline.generate("x", **SMALL, callback=lambda step: getattr(pipeline, use)(*arguments.get(use, [])))
        except errors.BusyError as error:
            raised.append(error)

    if thread:
        worker = threading.Thread(target=generate)
        worker.start()
        worker.join(60)
        assert not worker.is_alive()
    else:
        generate()
    assert "cancel()" in str(raised[0])
    assert pipeline.generate("x", **SMALL).images


@pytest.mark.parametrize("thread", [False, True])
def test_a_callback_that_closes_its_pipeline_ends_the_run_and_frees_the_model(folder, thread):
    raised = []

    def generate():
        with sdcpp_py.Pipeline(folder) as own:
            try:
                own.generate("x", width=64, height=64, steps=5000, callback=lambda step: own.close())
            except errors.CancelledError:
                raised.append(own._model)

    worker = threading.Thread(target=generate)
    worker.start() if thread else generate()
    worker.join() if thread else None
    assert raised == [None]


def test_what_a_callback_raises_comes_out_and_the_object_lives_on(pipeline):
    def fail(step):
        raise KeyError(step.step)

    with pytest.raises(KeyError):
        pipeline.generate("x", **SMALL, callback=fail)
    assert pipeline.generate("x", **SMALL).images


def test_cancel_from_another_thread(pipeline):
    started = threading.Event()
    threading.Thread(target=lambda: (started.wait(), pipeline.cancel())).start()
    start = time.monotonic()
    with pytest.raises(errors.CancelledError):
        pipeline.generate("x", width=64, height=64, steps=5000, callback=lambda step: started.set())
    assert time.monotonic() - start < 20
    assert pipeline.generate("x", **SMALL).images


def test_use_after_close(folder):
    made = sdcpp_py.Pipeline(folder)
    made.close()
    made.close()
    assert "closed" in repr(made)
    for use in (lambda: made.generate("x"), lambda: made.decode(np.zeros((4, 8, 8))), lambda: made.default("width")):
        with pytest.raises(errors.ClosedError):
            use()


def test_every_error_is_of_its_builtin_kind():
    assert issubclass(errors.InvalidArgumentError, ValueError)
    assert issubclass(errors.ModelNotFoundError, FileNotFoundError)
    assert issubclass(errors.OutOfMemoryError, MemoryError)
    assert all(issubclass(kind, errors.SdcppError) for kind in vars(errors).values() if isinstance(kind, type))


def test_out_of_memory_is_an_exception(folder):
    """In a process of its own whose address space is bounded."""
    code = """
import resource, sys, sdcpp_py
pipeline = sdcpp_py.Pipeline(sys.argv[1])
pipeline.generate("x", width=64, height=64, steps=1)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
try:
    pipeline.generate("x", width=4096, height=4096, steps=1)
except MemoryError as error:
    print("caught", type(error).__name__)
pipeline.generate("x", width=64, height=64, steps=1)
print("alive")
"""
    out = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=300, cwd=folder)
    assert "caught" in out.stdout and "alive" in out.stdout, out.stdout + out.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_the_object_usable(folder):
    """One step of this takes far longer than a second; the interrupt comes in its middle."""
    code = """
import signal, sys, threading, time, sdcpp_py
pipeline = sdcpp_py.Pipeline(sys.argv[1])
def interrupt():
    global sent
    time.sleep(2)
    sent = time.monotonic()
    signal.raise_signal(signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    pipeline.generate("x", width=1024, height=1024, steps=50)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - sent)
print(pipeline.generate("x", width=64, height=64, steps=1))
"""
    out = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60, cwd=folder)
    assert out.stdout.startswith("interrupted") and "Result" in out.stdout, out.stdout + out.stderr
    assert float(out.stdout.split()[1]) < 5


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_stops_within_moments(folder, tmp_path):
    command = [sys.executable, "-m", "sdcpp_py", "generate", "x", "-m", str(folder), "-W", "64", "-H", "64", "--steps", "9999"]
    process = subprocess.Popen([*command, "-o", str(tmp_path / "x.png")], stderr=subprocess.PIPE, cwd=tmp_path)
    time.sleep(4)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - start < 5
    assert not list(tmp_path.iterdir()), "no half-written file"
