import base64
import io
import shlex
import subprocess
import sys

import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import _gpu_advice, cli, errors
from sdcpp_py.cli import terminal

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


def test_without_a_name_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for expected in (["output.png"], ["output_1.png"]):
        assert cli.main(["generate", "a star", "--steps", "1"]) == 0
        assert capsys.readouterr().out.split() == expected
    assert cli.main(["generate", "a star", "--steps", "1", "-b", "2"]) == 0
    assert capsys.readouterr().out.split() == ["output_2.png", "output_2_1.png"]
    before = (tmp_path / "output.png").read_bytes()
    assert cli.main(["generate", "a ring", "--steps", "1", "-o", "output.png"]) == 0
    assert (tmp_path / "output.png").read_bytes() != before, "a name that is given is overwritten"


def test_what_was_used_is_told(tmp_path, capsys):
    out = str(tmp_path / "a.png")
    assert cli.main(["generate", "a star", "--steps", "2", "-s", "5", "-o", out, "-v", "--max-vram", "2"]) == 0
    told = capsys.readouterr().err
    assert "seed 5, 128x128, 2 steps of dpm++2m, karras, cfg 3: " in told
    assert "unet: memory is enough: 8.7 MiB of weights stayed; 2 runs of " in told
    card = ["--device", "simulated:vram=0.008,link=2"]
    assert cli.main(["generate", "a star", "--steps", "2", "-s", "5", "-o", out, "-v", *card]) == 0
    assert "unet: memory is not enough for all 8.7 MiB of weights: " in capsys.readouterr().err


def test_a_prompt_beyond_the_embedded_model_is_told(tmp_path, capsys, caplog):
    out = str(tmp_path / "a.png")
    assert cli.main(["generate", "a lighthouse at dusk", "--steps", "1", "-o", out]) == 0
    assert "the embedded model draws one or two coloured shapes (circle, square" in caplog.text
    caplog.clear()
    assert cli.main(["generate", "two Stars", "--steps", "1", "-o", out]) == 0
    assert not caplog.text


def test_the_embedded_models_words_are_those_of_its_training():
    import importlib.util
    import sys
    from pathlib import Path

    from sdcpp_py import _embedded

    spec = importlib.util.spec_from_file_location("pictures", Path(__file__).parents[2] / "training" / "pictures.py")
    pictures = sys.modules["pictures"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    assert pictures.SHAPES == _embedded.SHAPES and tuple(pictures.COLOURS) == _embedded.COLOURS


def test_a_prompt_may_come_from_the_standard_input(tmp_path, monkeypatch, capsys):
    import io

    out = tmp_path / "a.png"
    monkeypatch.setattr("sys.stdin", io.StringIO("a red star\n"))
    assert cli.main(["generate", "-", "--steps", "1", "-o", str(out)]) == 0
    assert Image.open(out).text["parameters"].startswith("a red star\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["genrate", "x"], "did you mean generate?"),
        (["generate", "x", "--stepz", "3"], "did you mean --steps"),
        (["generate", "x", "--max_vram=3"], "did you mean --max-vram"),
        (["info", "x", "--tenzors"], "did you mean --tensors"),
    ],
)
def test_a_wrong_name_gets_a_near_one(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_the_version_is_an_option_too(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"sdcpp_py {sdcpp_py.__version__}, ggml ")


def test_names_that_other_runs_took_meanwhile_are_left_to_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.outputs.free_names(1) == cli.outputs.free_names(1)
    taken = [cli.outputs.reserved(2) for _ in range(3)]
    assert len({path for paths in taken for path in paths}) == 6


@pytest.mark.parametrize("command", ["generate", "upscale", "info", "plan", "convert"])
def test_help_shows_examples_that_the_command_takes(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "-h"])
    examples = capsys.readouterr().out.partition("examples:\n")[2].replace("\\\n", "").splitlines()
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["sdcpp", command] and cli._parsed(words[1:]).run


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KONSOLE_VERSION": "230800"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "vscode"}, "iterm2"),
    ],
)
def test_terminals_that_show_pictures_are_known(environment, how):
    assert terminal.protocol(environment, True) == how
    text = terminal.shown(Image.radial_gradient("L").resize((200, 200)), how)
    start, end, between = {
        "kitty": ("\x1b_Gf=100,a=T,r=12,q=2,m=1;", "\x1b\\", ";"),
        "iterm2": ("\x1b]1337;File=inline=1;", "\x07", ":"),
    }[how]
    assert text.startswith(start) and text.endswith(end)
    chunks = [part.rpartition(between)[2] for part in text.removesuffix(end).split(end)]
    assert all(len(chunk) <= 4096 for chunk in chunks) or how == "iterm2"
    assert Image.open(io.BytesIO(base64.b64decode("".join(chunks)))).size == (200, 200)


@pytest.mark.parametrize("environment", [{"TERM": "xterm"}, {"TERM": "xterm-kitty", "TMUX": "1"}])
def test_other_terminals_are_told(environment, capsys, monkeypatch):
    for name in ("TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.InvalidArgumentError, match="not known to show pictures"):
        terminal.protocol(environment, True)
    status, _, err = run(capsys, "generate", "x", "--preview-inline")
    assert status == 1 and "--preview-path" in err


def test_previews_are_shown_in_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "protocol", lambda environment, is_terminal: "kitty")
    status, _, err = run(capsys, "generate", "a red circle", *SMALL, "--preview-inline", "-o", str(tmp_path / "x.png"))
    assert status == 0 and err.count("\x1b_Gf=100") == 2
