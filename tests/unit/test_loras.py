"""LoRA and its kin on tiny models, against weights that numpy has changed."""

import adapters
import numpy as np
import pytest
import tiny
from adapters import unet_inputs
from budgets import SIMULATED, least_gib

import sdcpp_py
from sdcpp_py import errors

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
