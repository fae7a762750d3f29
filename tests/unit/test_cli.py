import subprocess
import sys

import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import _gpu_advice, cli

SMALL = ["-W", "64", "-H", "64", "--steps", "2"]


def run(capsys, *arguments):
    status = cli.main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_generate_writes_a_batch_with_parameters(folder, tmp_path, capsys):
    pattern = str(tmp_path / "p_%02d.png")
    status, out, err = run(capsys, "generate", "a cat", "-m", str(folder), *SMALL, "-b", "2", "-s", "4", "-o", pattern)
    assert status == 0 and out.split() == [str(tmp_path / "p_00.png"), str(tmp_path / "p_01.png")]
    assert "seed 4" in err
    assert "Seed: 5" in Image.open(tmp_path / "p_01.png").text["parameters"]


def test_the_prompt_is_given_once(folder, tmp_path, capsys):
    target = str(tmp_path / "x.png")
    for arguments in ([], ["a", "-p", "b"]):
        status, _, err = run(capsys, "generate", *arguments, "-m", str(folder), "-o", target)
        assert status == 1 and "prompt" in err
    assert run(capsys, "generate", "-p", "a", "-m", str(folder), *SMALL, "-o", target)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-m", "/none.safetensors"], "no such file"),
        (["-o", "x.xyz"], ".png"),
        (["-o", "/no/such/folder/x.png"], "does not exist"),
        (["--sampling-method", "eulr"], "unknown --sampling-method 'eulr'; did you mean euler"),
        (["--steps", "0"], "steps"),
        (["--max-vram", "much"], "--max-vram"),
        (["--max-vram", "0.01", "--device", "CPU"], "of the process itself"),
        (["--vae", "/none.safetensors"], "no such file"),
        (["--max-vram", "0.0001", "--device", "simulated:vram=1"], "; --max-vram 0.0"),
        (["--cfg-scale", "-2"], "sdcpp: --cfg-scale is -2.0; 0 to 1000 are possible"),
    ],
)
def test_errors_are_printed_in_a_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "generate", "x", *arguments)
    assert status == 1 and says in err and "Traceback" not in err and err.startswith("sdcpp: ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux counts")
def test_the_cpus_budget_is_for_the_process(tmp_path):
    """The most memory that the whole process had at a time, as the system counts it, in MiB."""
    source = "import sys; from sdcpp_py import cli; status = cli.main(sys.argv[1:]);"
    source += "most = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
    source += "print(int(most.split()[1]) // 1024); sys.exit(status)"
    command = [sys.executable, "-c", source, "generate", "a red circle", "-o", str(tmp_path / "x.png"), "--device", "CPU"]
    for budget in (150, 200):
        limited = [*command, "--max-vram", str(budget / 1024)]
        out = subprocess.run(limited, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
        assert int(out.splitlines()[-1]) <= budget


def test_info_devices_version(folder, capsys):
    status, out, _ = run(capsys, "info", str(folder / "unet" / "diffusion_pytorch_model.safetensors"), "--tensors")
    assert status == 0 and "UNet" in out and "missing for text to image: text encoder (CLIP-L), VAE decoder" in out
    assert "conv_in.weight  f32 [32, 4, 3, 3]" in out
    whole = run(capsys, "info", str(folder))[1]
    assert "Stable Diffusion 1.x" in whole and "missing for text to image: nothing" in whole
    assert "CPU" in run(capsys, "devices")[1]
    assert "ggml" in run(capsys, "version")[1]


def test_python_m_and_help(tmp_path):
    out = subprocess.run([sys.executable, "-m", "sdcpp_py", "generate", "-h"], capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 0
    flags = (
        "-m -p -n -W -H -s -b -t -o -v --model --vae --taesd --type --steps --cfg-scale --seed --batch-count --sampling-method "
        "--scheduler --clip-skip --rng --vae-tiling --max-vram --stream-layers --offload-to-cpu"
    )
    for flag in flags.split():
        assert flag in out.stdout, flag


def test_importing_does_no_heavy_work(tmp_path):
    code = "import sys, sdcpp_py; print(sorted(m for m in ('torch', 'tokenizers', 'PIL.PngImagePlugin') if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "torch" not in out.stdout and out.returncode == 0


def test_devices_says_what_to_type_for_a_gpu(capsys):
    if any(not device.is_cpu for device in sdcpp_py.devices()):
        pytest.skip("this ggml has a GPU")
    out = run(capsys, "devices")[1]
    assert "No GPU: " in out
    if "as PyPI's wheel" in out:
        assert _gpu_advice.CUDA_COMMAND in out and _gpu_advice.VULKAN_COMMAND in out


CUDA_TROUBLE = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"


@pytest.mark.parametrize(
    ("backends", "trouble", "vulkan_loaded", "says"),
    [
        ({"CPU": 1}, [], False, [_gpu_advice.CUDA_COMMAND, _gpu_advice.VULKAN_COMMAND]),
        ({"BLAS": 1, "CPU": 1}, [], False, [_gpu_advice.CUDA_COMMAND]),
        ({"CUDA": 0, "CPU": 1}, [CUDA_TROUBLE], False, ["finds no device (no CUDA-capable device is detected)."]),
        ({"CUDA": 0, "CPU": 1}, [], False, ["CUDA is built in but finds no device.", "nvidia-smi"]),
        ({"Vulkan": 0, "CPU": 1}, [CUDA_TROUBLE], False, ["finds no device.", "GGML_VK_VISIBLE_DEVICES=0"]),
        ({"CPU": 1}, [], True, ["Vulkan is built in", "vulkaninfo"]),
        ({"CUDA": 0, "Vulkan": 0, "CPU": 1}, [CUDA_TROUBLE], False, ["CUDA is built in", "Vulkan is built in"]),
    ],
)
def test_why_there_is_no_gpu(backends, trouble, vulkan_loaded, says):
    text = _gpu_advice.no_gpu(backends, trouble, vulkan_loaded=vulkan_loaded)
    assert all(part in text for part in says)


def test_a_ggml_of_ones_own_is_built_again_rather_than_the_package():
    text = _gpu_advice.no_gpu({"CPU": 1}, [], packaged=False)
    assert "-DGGML_CUDA=ON" in text and "pip" not in text


def test_no_advice_is_given_if_there_is_a_gpu():
    assert _gpu_advice.no_gpu({"CUDA": 1, "Vulkan": 0, "CPU": 1}, []) == ""


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ("libcuda.so.1: cannot open shared object file: No such file or directory", "driver"),
        ("libcublas.so.13: cannot open shared object file: No such file or directory", "LD_LIBRARY_PATH"),
        ("libcudart.so.13: cannot open shared object file: No such file or directory", "LD_LIBRARY_PATH"),
        ("libvulkan.so.1: cannot open shared object file: No such file or directory", "libvulkan1"),
        ("libggml.so.0: cannot open shared object file: No such file or directory", "pip install"),
        ("_engine.abi3.so: undefined symbol: ggml_prec_set_acc", "install sdcpp_py again"),
    ],
)
def test_an_engine_that_cannot_be_loaded_says_what_to_do(problem, says):
    assert says in _gpu_advice.not_loaded(problem)


def test_an_unknown_loading_problem_is_left_as_it_is():
    assert _gpu_advice.not_loaded("something else") == ""
