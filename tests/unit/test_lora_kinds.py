"""Each kind of change against its formula in numpy: on matrices, kernels, parts of joined layers, quantized weights."""

import adapters
import numpy as np
import pytest
import tiny
from adapters import unet_inputs, with_part

import sdcpp_py
from sdcpp_py import convert, errors


def kohya(name):
    return "lora_unet_" + name.replace(".", "_")


def some_layers():
    """Of each sort a few: matrices, kernels of one value and of nine."""
    return adapters.matrices(
        "unet", "mid_block.attentions.0", "down_blocks.1.resnets.0", "up_blocks.0.upsamplers", "time_emb_proj"
    )


@pytest.mark.parametrize("kind", adapters.KINDS)
def test_a_kind_is_its_formula(folder, tmp_path, kind):
    layers = some_layers()
    tensors, changed = adapters.of_kind(kind, layers, kohya, 0.7)
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
    baked = with_part(folder, tmp_path / "baked", "unet", tiny.part("unet") | changed)
    with sdcpp_py.Pipeline(baked) as pipeline:
        expected = pipeline.evaluate("unet", **unet_inputs())
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = pipeline.evaluate("unet", **unet_inputs())
        found = pipeline.evaluate("unet", **unet_inputs(), loras=[(path, 0.7)])
        used = pipeline._prompts.used_loras[0]
        assert used.unmatched == [] and used.layers == len(layers)
        assert np.abs(expected - plain).max() > 0.05
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)
        np.testing.assert_array_equal(pipeline.evaluate("unet", **unet_inputs(), loras=[(path, 0)]), plain)


def test_changes_come_one_after_the_other_in_the_order_given(folder, tmp_path):
    layers, paths = adapters.matrices("unet", "mid_block.attentions.0"), []
    weights = layers
    for kind, strength in (("oft", 0.5), ("lora", 0.7), ("dora", 1)):
        _, changed = adapters.of_kind(kind, weights, kohya, strength)
        tensors, _ = adapters.of_kind(kind, weights if kind == "dora" else layers, kohya, strength)
        paths.append((tiny.write_safetensors(tmp_path / f"{kind}.safetensors", tensors), strength))
        weights = {name: changed[f"{name}.weight"] for name in layers}
    baked = with_part(folder, tmp_path / "baked", "unet", tiny.part("unet") | {f"{n}.weight": w for n, w in weights.items()})
    with sdcpp_py.Pipeline(baked) as pipeline:
        expected = pipeline.evaluate("unet", **unet_inputs())
    with sdcpp_py.Pipeline(folder) as pipeline:
        found = pipeline.evaluate("unet", **unet_inputs(), loras=paths)
        other = pipeline.evaluate("unet", **unet_inputs(), loras=paths[::-1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
    assert np.abs(other - expected).max() > 1e-3


def test_plain_ones_may_come_in_any_order(folder, tmp_path):
    one = tiny.write_safetensors(tmp_path / "one.safetensors", adapters.kohya(adapters.matrices("unet", "attn1"), "lora_unet_"))
    layers = adapters.matrices("unet", "attn")
    two = tiny.write_safetensors(tmp_path / "two.safetensors", adapters.of_kind("loha", layers, kohya, 1)[0])
    with sdcpp_py.Pipeline(folder) as pipeline:
        found = [
            pipeline.evaluate("unet", **unet_inputs(), loras=loras)
            for loras in ([(one, 0.5), (two, -0.4)], [(two, -0.4), (one, 0.5)], [(one, 0.2), (two, -0.4), (one, 0.3)])
        ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0, atol=3e-5)


def test_biases_and_norms_change_too(folder, tmp_path):
    part = tiny.part("unet")
    rng = np.random.default_rng(0)
    tensors, changed = {}, {}
    for name, array in part.items():
        stem, _, end = name.rpartition(".")
        if array.ndim == 1 and "mid_block" in name:
            diff = rng.standard_normal(array.shape).astype(np.float32)
            norm = "norm" in stem.rpartition(".")[2]
            ending = {"weight": "w_norm", "bias": "b_norm" if norm else "diff_b"}[end]
            tensors[f"{kohya(stem)}.{ending}"] = diff
            changed[name] = array + np.float32(0.3) * diff
    up, down = np.ones((64, 2), np.float32), np.zeros((2, 64), np.float32)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    bias = rng.standard_normal(64).astype(np.float32)
    peft = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up, f"{layer}.lora_B.bias": bias}
    del tensors[kohya(layer.removeprefix("unet.")) + ".diff_b"]
    own = layer.removeprefix("unet.") + ".bias"
    changed[own] = part[own] + np.float32(0.3) * bias
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors | peft)
    baked = with_part(folder, tmp_path / "baked", "unet", part | changed)
    with sdcpp_py.Pipeline(baked) as pipeline:
        expected = pipeline.evaluate("unet", **unet_inputs())
    with sdcpp_py.Pipeline(folder) as pipeline:
        found = pipeline.evaluate("unet", **unet_inputs(), loras=[(path, 0.3)])
        assert pipeline._prompts.used_loras[0].unmatched == []
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "glora", "full", "whole", "ia3", "dora", "oft"])
def test_a_joined_layer_changes_its_parts(tmp_path, kind):
    model = tiny.write_family(tmp_path / "model", "z-image")
    part = tiny.part("z_transformer")
    letters = {name: [name.replace("to_q", f"to_{letter}") for letter in "qkv"] for name in part if name.endswith("to_q.weight")}
    whole = {name.replace("to_q.weight", "qkv"): np.concatenate([part[one] for one in parts]) for name, parts in letters.items()}
    tensors, changed = adapters.of_kind(kind, whole, lambda name: f"diffusion_model.{name}", 0.7)
    for name, parts in letters.items():
        for one, rows in zip(parts, np.split(changed[name.replace("to_q", "qkv")], 3)):
            part[one] = np.ascontiguousarray(rows)
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal((1, 16, 8, 8)),
        "context": rng.standard_normal((1, 40, 32)),
        "timesteps": np.array([500.0]),
    }
    with sdcpp_py.Pipeline(with_part(model, tmp_path / "baked", "transformer", part)) as pipeline:
        expected = pipeline.evaluate("z_image", **inputs)
    with sdcpp_py.Pipeline(model) as pipeline:
        found = pipeline.evaluate("z_image", **inputs, loras=[(path, 0.7)])
        assert pipeline._prompts.used_loras[0].unmatched == []
        assert np.abs(found - pipeline.evaluate("z_image", **inputs)).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


def test_what_cannot_be_cut_into_parts_says_so(tmp_path):
    model = tiny.write_family(tmp_path / "model", "z-image")
    part = tiny.part("z_transformer")
    name = next(name for name in part if name.endswith("to_q.weight"))
    whole = np.concatenate([part[name.replace("to_q", f"to_{letter}")] for letter in "qkv"])
    tensors, _ = adapters.of_kind("dora_on_input", {name.replace("to_q.weight", "qkv"): whole}, "diffusion_model.{}".format, 1)
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
    with sdcpp_py.Pipeline(model) as pipeline, pytest.raises(errors.UnsupportedModelError, match="cannot be cut"):
        pipeline.prompt_states("a cat", loras=[path])


def errors_of(folder, tmp_path, wtype, lora):
    """The distances from a changed model's output in f32, of that model in a type and of the type's changed in place."""
    layers = adapters.matrices("unet", "attn", "ff.net")
    baked = with_part(folder, tmp_path / "baked", "unet", adapters.baked("unet", layers, 0.5))
    quantized = tmp_path / "q.gguf"
    convert(folder, quantized, wtype=wtype)
    with sdcpp_py.Pipeline(baked) as pipeline:
        exact = pipeline.evaluate("unet", **unet_inputs())
    with sdcpp_py.Pipeline(baked, wtype=wtype) as pipeline:
        once = pipeline.evaluate("unet", **unet_inputs())
    with sdcpp_py.Pipeline(quantized) as pipeline:
        plain = pipeline.evaluate("unet", **unet_inputs())
        twice = pipeline.evaluate("unet", **unet_inputs(), loras=[(lora, 0.5)])
        np.testing.assert_array_equal(pipeline.evaluate("unet", **unet_inputs()), plain)
    return [np.sqrt(np.mean((one - exact) ** 2)) for one in (plain, once, twice)]


@pytest.mark.parametrize("wtype", ["q8_0", "q4_0", "f16"])
def test_quantized_weights_are_changed_within_another_rounding(folder, tmp_path, wtype):
    layers = adapters.matrices("unet", "attn", "ff.net")
    lora = tiny.write_safetensors(tmp_path / "lora.safetensors", adapters.kohya(layers, "lora_unet_"))
    plain, once, twice = errors_of(folder, tmp_path, wtype, lora)
    assert twice < 2.5 * once and twice < 0.6 * plain
