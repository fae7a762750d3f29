"""The README's and the first session's code blocks run, with tiny models under the names of the files that they mention."""

import re
import shlex
import shutil
from pathlib import Path

import adapters
import pytest
import tiny
from PIL import Image

import sdcpp_py
from sdcpp_py import cli

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/first_session.md", "docs/planning.md", "docs/lora.md")
NOT_HERE = ("pip ", "bash ", "export ")  # installing: the continuous integration runs those lines


def blocks(page):
    """Python blocks, and lines of other code blocks."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    python = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return python, [line.strip() for line in re.findall(r"^ {4,}(\S.*)$", rest, re.MULTILINE)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny models as the files that the pages name."""
    made = tmp_path_factory.mktemp("guides")
    pipeline = tiny.write_folder(made / "sd")
    sdcpp_py.convert(pipeline, made / "tiny.gguf", progress=False)
    for name in ("v1-5-pruned-emaonly.safetensors", "sd_xl_base_1.0.safetensors", "model.safetensors"):
        shutil.copy(made / "tiny.gguf", made / name)
    for family, names in (
        ("z-image", {"transformer": "z_image_turbo_bf16", "text_encoder": "qwen_3_4b", "vae": "ae"}),
        ("flux.1", {"transformer": "flux1-dev", "text_encoder": "clip_l", "text_encoder_2": "t5xxl_fp16"}),
        ("krea-2", {"transformer": "krea2_turbo_bf16", "text_encoder": "qwen3vl_4b_bf16", "vae": "qwen_image_vae"}),
        ("flux.2", {"transformer": "flux-2-klein-4b", "text_encoder": "qwen_3_4b", "vae": "flux2-vae"}),
    ):
        folder = tiny.write_family(made / family, family)
        for part, name in names.items():
            (file,) = (folder / part).glob("*.safetensors")
            keyword = {"transformer": "diffusion_model", "vae": "vae"}.get(part, "text_encoders")
            # as GGUF, which carries the config of sizes that tensors do not show
            sdcpp_py.convert(None, made / "part.gguf", **{keyword: file}, progress=False)
            shutil.move(made / "part.gguf", made / f"{name}.safetensors")
    (made / "loras").mkdir()
    tiny.write_safetensors(made / "loras" / "ink.safetensors", adapters.kohya(adapters.matrices("unet", "attn1"), "lora_unet_"))
    return made


@pytest.fixture
def quick(files, monkeypatch, tmp_path):
    """In a folder with the files; pictures are small and of two steps, after every option has been read."""
    for path in files.glob("*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "loras").symlink_to(files / "loras")
    Image.new("RGB", (64, 48)).save(tmp_path / "lighthouse.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDCPP_CACHE", str(tmp_path / "cache"))
    real = sdcpp_py.Pipeline.generate

    def small(self, *arguments, **given):
        if self.family != "sd1" or self.model_path.name != "shapes.gguf":
            given |= {"width": 64, "height": 64, "steps": 2}
        return real(self, *arguments, **given)

    monkeypatch.setattr(sdcpp_py.Pipeline, "generate", small)


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page, quick, capsys):
    lines = [line for line in blocks(page)[1] if line.startswith("sdcpp ")]
    lines += [
        part.strip() for line in blocks(page)[1] if line.startswith("pip") for part in line.split("&&") if "sdcpp g" in part
    ]
    assert lines
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES)
def test_other_lines_are_known(page):
    for line in blocks(page)[1]:
        assert line.startswith(("sdcpp ", *NOT_HERE)), line


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page, quick, capsys):
    assert cli.main(["generate", "a star", "--steps", "1", "-o", "lighthouse.png"]) == 0
    for text in blocks(page)[0]:
        exec(compile(text, page, "exec"), {})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_say_how_they_are_used(path):
    assert path.read_text().startswith('"""')
    compile(path.read_text(), path, "exec")


NEED_MORE = {"larger_than_memory", "z_image", "upscale", "ray_workers"}  # models that this machine lacks; the package ray
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in NEED_MORE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path, quick, capsys):
    assert len(path.read_text().splitlines()) < 40
    exec(compile(path.read_text(), path.name, "exec"), {"__name__": "__main__", "__file__": str(path)})
    told = capsys.readouterr().out
    assert "same: False" not in told
