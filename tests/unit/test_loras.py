"""LoRA and its kin on tiny models, against weights that numpy has changed."""

import hashlib
from pathlib import Path

import adapters
import numpy as np
import pytest
import tiny
from adapters import unet_inputs
from budgets import SIMULATED, least_gib
from PIL import Image

import sdcpp_py
from sdcpp_py import cli, errors

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 1, "progress": False}
SPEEDS = (2e10, 2e9)


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A LoRA of every matrix and kernel of the UNet and of the text encoder."""
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    tensors = adapters.kohya(adapters.matrices("unet"), "lora_unet_")
    return tiny.write_safetensors(path, tensors | adapters.kohya(adapters.matrices("text_encoder", "attn", "mlp"), "lora_te_"))


def test_a_lora_gives_what_changed_weights_give(folder, lora, tmp_path):
    changed = adapters.with_part(folder, tmp_path / "unet", "unet", adapters.baked("unet", adapters.matrices("unet"), 0.5))
    with sdcpp_py.Pipeline(changed) as pipeline:
        expected = pipeline.evaluate("unet", **unet_inputs())
    layers = adapters.matrices("text_encoder", "attn", "mlp")
    changed = adapters.with_part(folder, tmp_path / "text", "text_encoder", adapters.baked("text_encoder", layers, 0.5))
    with sdcpp_py.Pipeline(changed) as pipeline:
        states = pipeline.prompt_states("a cat")
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = pipeline.evaluate("unet", **unet_inputs())
        assert np.abs(plain - expected).max() > 0.1
        np.testing.assert_allclose(pipeline.evaluate("unet", loras=[(lora, 0.5)], **unet_inputs()), expected, rtol=0, atol=2e-5)
        np.testing.assert_allclose(pipeline.prompt_states("a cat", loras=[(lora, 0.5)]), states, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(pipeline.evaluate("unet", **unet_inputs()), plain)


def test_taken_off_again_or_of_no_weight_it_leaves_every_picture_as_it_was(folder, lora):
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = pipeline.generate("a cat", **SMALL).latents[0]
        with_it = pipeline.generate("a cat", **SMALL, loras=[(lora, 0.7)])
        assert np.abs(with_it.latents[0] - plain).max() > 0.01
        np.testing.assert_array_equal(pipeline.generate("a cat", **SMALL).latents[0], plain)
        np.testing.assert_array_equal(pipeline.generate("a cat", **SMALL, loras=[(lora, 0)]).latents[0], plain)
        again = pipeline.generate(**with_it.parameters, progress=False)
        np.testing.assert_array_equal(again.latents[0], with_it.latents[0])


def test_parts_have_weights_of_their_own(folder, lora):
    with sdcpp_py.Pipeline(folder) as pipeline:
        text = pipeline.prompt_states("a cat")
        both = pipeline.prompt_states("a cat", loras=[(lora, 0.5)])
        np.testing.assert_array_equal(pipeline.prompt_states("a cat", loras=[(lora, {"unet": 0.5})]), text)
        np.testing.assert_array_equal(pipeline.prompt_states("a cat", loras=[(lora, {"unet": 3, "te": 0.5})]), both)


@pytest.mark.parametrize("policy", ["pipelined", "capped", "full"])
def test_streamed_is_as_resident(folder, lora, policy):
    given = [(lora, 0.7), (lora, {"unet": -0.2, "te": 0.1})]
    with sdcpp_py.Pipeline(folder, max_vram=0) as pipeline:
        plain, expected = (pipeline.generate("a cat", **SMALL, loras=loras).latents[0] for loras in (None, given))
    networks = {"clip_l": 64, "unet": 64, "vae.decoder": 64}
    budget = 1.6 * least_gib(folder, policy, networks)
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=budget, plan_policy=policy, link_speed=SPEEDS) as pipeline:
        for loras, wanted in ((None, plain), (given, expected), (None, plain), (given, expected)):
            made = pipeline.generate("a cat", **SMALL, loras=loras)
            np.testing.assert_array_equal(made.latents[0], wanted)
            assert made.memory["peak"] <= budget * 2**30
        assert made.reports["unet"].uploaded_bytes > 0


def test_only_what_it_touches_is_loaded_again(folder, tmp_path):
    few = {name: weight for name, weight in adapters.matrices("unet", "attn2").items() if "mid_block" in name}
    path = tiny.write_safetensors(tmp_path / "few.safetensors", adapters.kohya(few, "lora_unet_"))
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=0) as pipeline:
        whole = pipeline.generate("a cat", **SMALL).reports["unet"].uploaded_bytes
        for loras in ([(path, 1)], [(path, 0.5)], None):
            loaded = pipeline.generate("a cat", **SMALL, loras=loras).reports["unet"].uploaded_bytes
            assert sum(weight.nbytes for weight in few.values()) <= loaded < whole / 10
        assert pipeline.generate("a cat", **SMALL).reports["unet"].uploaded_bytes == 0


def test_what_is_no_longer_used_in_its_file_counts_as_memory(folder, tmp_path):
    layers = adapters.matrices("unet", "attn1.to_q")
    path = tiny.write_safetensors(tmp_path / "few.safetensors", adapters.kohya(layers, "lora_unet_"))
    with sdcpp_py.Pipeline(folder, max_vram=0) as pipeline:
        plain = pipeline.generate("a cat", **SMALL).memory
        changed = pipeline.generate("a cat", **SMALL, loras=[path]).memory
        pipeline.generate("a cat", **SMALL)
        again = pipeline.generate("a cat", **SMALL).memory
    touched = sum(weight.nbytes for weight in layers.values())
    assert plain["mapped"] - touched <= changed["mapped"] < plain["mapped"] and again["mapped"] == plain["mapped"]
    assert touched <= changed["weights"] - plain["weights"] < 3 * touched and again["weights"] == plain["weights"]


def test_what_was_matched_is_told(folder, lora, tmp_path, caplog):
    tensors = adapters.kohya(adapters.matrices("unet", "attn1"), "lora_unet_")
    stranger = "lora_unet_nowhere.lora_down.weight"
    path = tiny.write_safetensors(tmp_path / "some.safetensors", {**tensors, stranger: np.ones((3, 32), np.float32)})
    with sdcpp_py.Pipeline(folder) as pipeline:
        made = pipeline.generate("a cat", **SMALL, loras=[path, (lora, 1)])
        used = made.loras[0]
        assert (used.path, used.matched, used.unmatched, used.kinds, used.ranks) == (
            path,
            len(tensors),
            [stranger],
            ["LoRA"],
            [3],
        )
        assert used.layers == len(tensors) // 3
        assert made.loras[1].unmatched == []
    assert f"1 of {len(tensors) + 1} tensors have no use in this model: {stranger}" in caplog.text


def test_what_cannot_be_used_says_why_and_leaves_the_pipeline_as_it_was(folder, lora, tmp_path):
    def written(name, tensors):
        return tiny.write_safetensors(tmp_path / f"{name}.safetensors", tensors)

    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

    def one(down, up, **more):
        return {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up, **more}

    ones = np.ones
    nan = ones((64, 2), np.float32)
    nan[3, 1] = np.nan
    double = "lora_unet_double_blocks_0_img_attn_qkv"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(lora.read_bytes()[:-1000])
    wrong = {
        written("rank", one(ones((0, 64), np.float32), ones((64, 0), np.float32))): "rank 0",
        written("shape", one(ones((2, 32), np.float32), ones((64, 2), np.float32))): r"shape \[2, 32\], expected \[2, 64\]",
        written("half", {f"{layer}.lora_up.weight": ones((64, 2), np.float32)}): "lacks its lora_down.weight",
        written("nan", one(ones((2, 64), np.float32), nan)): "not finite",
        written("flux", {f"{double}.lora_down.weight": ones((2, 8), np.float32)}): "LoRA for FLUX.1",
        written("nothing", {"a.weight": ones((2, 8), np.float32)}): "holds no LoRA",
        folder / "unet" / "diffusion_pytorch_model.safetensors": "holds no LoRA",
        cut: "cut.safetensors",
        tmp_path / "absent.safetensors": "no such file",
    }
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = pipeline.generate("a cat", **SMALL).latents[0]
        for path, message in wrong.items():
            with pytest.raises(errors.SdcppError, match=message):
                pipeline.generate("a cat", **SMALL, loras=[(lora, 1), (path, 1)])
        for loras in ([(lora, float("nan"))], [(lora, "much")], [(lora, {"vae": 1})], lora, 3, [(lora, 1)] * 101, [(3, 1)]):
            with pytest.raises(errors.InvalidArgumentError, match=r"(?i)lora"):
                pipeline.generate("a cat", **SMALL, loras=loras)
        np.testing.assert_array_equal(pipeline.generate("a cat", **SMALL).latents[0], plain)
    with pytest.raises(errors.UnsupportedModelError, match="is a LoRA"):
        sdcpp_py.Pipeline(lora)


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    """A folder of LoRAs: "style" changes attention, "deep/other" is called "named" by its trainer."""
    folder = tmp_path_factory.mktemp("styles")
    (folder / "deep").mkdir()
    tensors = adapters.kohya(adapters.matrices("unet", "attn1"), "lora_unet_") | adapters.kohya(
        adapters.matrices("text_encoder", "mlp"), "lora_te_"
    )
    tiny.write_safetensors(folder / "style.safetensors", tensors, {"sshs_model_hash": "0123456789abcdef" * 4})
    others = adapters.kohya(adapters.matrices("unet", "attn2"), "lora_unet_")
    tiny.write_safetensors(folder / "deep" / "other.safetensors", others, {"ss_output_name": "named"})
    return folder


@pytest.mark.parametrize(
    ("prompt", "loras"),
    [
        ("a cat<lora:style:0.5>", [("style", 0.5)]),
        ("a <lora:style>cat", [("style", 1)]),
        ("<lyco:style.safetensors:-1>a cat", [("style", -1)]),
        ("a cat<lora:style:0.5:0.25>", [("style", {"te": 0.5, "unet": 0.25})]),
        ("a cat<lora:style:unet=0.25>", [("style", {"te": 1, "unet": 0.25})]),
        ("a cat<lora:style:te=0.5:unet=0>", [("style", {"te": 0.5})]),
        ("a cat<lora:other:0.5>", [("deep/other", 0.5)]),
        ("a cat<lora:deep/other:0.5>", [("deep/other", 0.5)]),
        ("a cat<lora:named:0.5>", [("deep/other", 0.5)]),
        ("<lora:style:0.5>a cat<lora:other:2><lora:style:0.25>", [("style", 0.5), ("deep/other", 2), ("style", 0.25)]),
    ],
)
def test_tags_do_what_the_keyword_does(folder, styles, prompt, loras):
    with sdcpp_py.Pipeline(folder, lora_model_dir=styles) as pipeline:
        given = [(styles / f"{name}.safetensors", weight) for name, weight in loras]
        expected = pipeline.generate("a cat", **SMALL, loras=given)
        found = pipeline.generate(prompt, **SMALL)
        np.testing.assert_array_equal(found.latents[0], expected.latents[0])
        assert [used.path for used in found.loras] == [path for path, _ in given]
        again = pipeline.generate(**found.parameters, progress=False)
        np.testing.assert_array_equal(again.latents[0], expected.latents[0])


def test_tags_that_cannot_be_followed_say_why(folder, styles):
    wrong = {
        "<lora:styles>": "no file of that name in .*; there are style",
        "<lora:../style>": "names no file below",
        "<lora:/etc/passwd>": "names no file below",
        "<lora:style:much>": "'much' is no number",
        "<lora:style:nan>": "finite number",
        "<lora:style:1:1:4>": "'dyn' is not supported",
        "<lora:|high_noise|style:1>": "one of several diffusion models",
        "<hypernet:style:1>": "hypernetworks are not supported",
        "<lora:style:0.1>" * 10_000: "",
    }
    with sdcpp_py.Pipeline(folder, lora_model_dir=styles) as pipeline:
        for tag, message in wrong.items():
            with pytest.raises(errors.SdcppError, match=message):
                pipeline.generate(f"a cat{tag}", **SMALL)
        with pytest.raises(errors.InvalidArgumentError, match="10000 LoRA tags; 100 are possible"):
            pipeline.generate("<lora:a>" * 10_000, **SMALL)
        with pytest.raises(errors.InvalidArgumentError, match="has no use here"):
            pipeline.generate("a cat", negative_prompt="<lora:style>", **SMALL)
    with sdcpp_py.Pipeline(folder) as pipeline, pytest.raises(errors.InvalidArgumentError, match="lora_model_dir is needed"):
        pipeline.generate("a cat <lora:style>", **SMALL)
    absent = sdcpp_py.Pipeline(folder, lora_model_dir=styles / "absent")
    with absent as pipeline, pytest.raises(errors.ModelNotFoundError, match="absent does not exist"):
        pipeline.generate("a cat <lora:style>", **SMALL)


def test_prompts_of_one_call_have_their_own(folder, styles):
    prompts = ["a cat", "a cat<lora:style:2>", "a cat<lora:other:2>"]
    with sdcpp_py.Pipeline(folder, lora_model_dir=styles) as pipeline:
        together = pipeline.generate(prompts, **{**SMALL, "seed": [1, 1, 1]})
        for prompt, latent in zip(prompts, together.latents):
            np.testing.assert_array_equal(latent, pipeline.generate(prompt, **SMALL).latents[0])
        assert [used.path.stem for used in together.loras] == ["style", "other"]


def test_pictures_carry_names_and_hashes(folder, styles):
    other = styles / "deep" / "other.safetensors"
    data = other.read_bytes()
    digest = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()[:12]
    with sdcpp_py.Pipeline(folder, lora_model_dir=styles) as pipeline:
        text = pipeline.generate("a cat<lora:style:0.5>", **SMALL, loras=[(other, {"unet": 2})]).image.info["parameters"]
    assert text.startswith("a cat<lora:style:0.5> <lora:other:0:2>\n")
    assert f'Lora hashes: "other: {digest}, style: 0123456789ab"' in text


def test_a_file_that_changed_is_read_again(folder, tmp_path):
    layers, path = adapters.matrices("unet", "attn1"), tmp_path / "lora.safetensors"
    with sdcpp_py.Pipeline(folder) as pipeline:
        found = []
        for alpha in (3.0, 9.0):
            tiny.write_safetensors(tmp_path / "new.safetensors", adapters.kohya(layers, "lora_unet_", alpha=alpha))
            (tmp_path / "new.safetensors").replace(path)
            found.append(pipeline.generate("a cat", **SMALL, loras=[path]).latents[0])
        assert np.abs(found[0] - found[1]).max() > 1e-3
        thrice = pipeline.generate("a cat", **SMALL, loras=[(path, 1 / 3)]).latents[0]
        np.testing.assert_allclose(thrice, found[0], rtol=1e-3, atol=1e-3)


def test_the_facade_takes_a_folder_of_them(folder, styles):
    with sdcpp_py.StableDiffusion(folder, lora_model_dir=styles, lora_apply_mode="at_runtime") as model:
        given = {"width": 64, "height": 64, "sample_steps": 2, "seed": 1}
        found = model.generate_image("a cat<lora:style:0.5>", **given)[0]
        expected = model.pipeline.generate("a cat", **SMALL, loras=[(styles / "style.safetensors", 0.5)]).image
        assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_info_says_what_a_lora_is_for(lora, capsys):
    assert cli.main(["info", str(lora)]) == 0
    out = capsys.readouterr().out
    assert "style.safetensors: a LoRA, safetensors" in out
    assert "LoCon, LoRA of rank 3 on 101 layers of Stable Diffusion 1 or 2" in out
    assert "give it with --lora FILE beside one" in out


def test_the_command_line_takes_them(folder, lora, tmp_path, capsys):
    given = ["generate", "a cat", "-m", str(folder), "-W", "64", "-H", "64", "--steps", "1", "-s", "1", "--no-progress"]
    for number, more in enumerate((["--lora", f"{lora}:0.5"], ["--lora-model-dir", str(lora.parent)])):
        prompt = "a cat<lora:style:0.5>" if number else "a cat"
        out = tmp_path / f"{number}.png"
        assert cli.main([given[0], prompt, *given[2:], *more, "-o", str(out)]) == 0
    first, second = (np.asarray(Image.open(tmp_path / f"{number}.png")) for number in (0, 1))
    assert np.array_equal(first, second)
    assert cli.main([*given, "--lora", str(tmp_path / "absent.safetensors")]) != 0
    assert "no such file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def drawn():
    """Eight shapes by the embedded model alone, and with the example's LoRA."""
    lora = Path(__file__).parents[2] / "examples" / "outlines.safetensors"
    assert lora.stat().st_size <= 1 << 20
    prompts = [f"a large {colour} {shape} on a white background" for colour in COLOURS for shape in ("circle", "square")]
    with sdcpp_py.Pipeline(device="CPU") as pipeline:
        given = {"seed": list(range(20, 20 + len(prompts))), "progress": False}
        return [
            [np.asarray(image, np.float32) for image in pipeline.generate(prompts, loras=loras, **given).images]
            for loras in (None, [(lora, 1.0)])
        ]


COLOURS = ("red", "blue", "green", "purple")


def test_the_examples_lora_draws_outlines(drawn):
    """The middle of a shape is the background's colour, and there is still a shape around it."""
    hollow = 0
    for filled, outlined in zip(*drawn):
        middle, corner = (slice(60, 68), slice(60, 68)), (slice(0, 8), slice(0, 8))
        assert np.abs(filled[middle].mean((0, 1)) - filled[corner].mean((0, 1))).max() > 80
        shape = (np.abs(outlined - outlined[corner].mean((0, 1))).max(-1) > 60).mean()
        hollow += np.abs(outlined[middle].mean((0, 1)) - outlined[corner].mean((0, 1))).max() < 40 and shape > 0.03
    assert hollow >= 7, hollow
