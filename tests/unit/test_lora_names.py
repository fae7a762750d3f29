"""One LoRA under the names of every program that writes them: the same changes."""

import adapters
import numpy as np
import pytest
import tiny
from tiny import BLACK_FOREST

import sdcpp_py
from sdcpp_py import errors
from sdcpp_py._model_info import summarize


def underscored(prefix):
    return lambda name: prefix + name.replace(".", "_")


def original(file, component):
    """The original checkpoint's name for a layer of a diffusers file."""
    found = {
        tensor.name.removesuffix(".weight"): tensor.canonical.removeprefix(f"{component}.").removesuffix(".weight")
        for tensor in summarize(file).tensors
    }
    return found.__getitem__


def same(pipeline, tmp_path, network, inputs, namings):
    """Evaluate the network with each of the files; all must agree with the first, and be used up."""
    expected = None
    plain = pipeline.evaluate(network, **inputs)
    for title, tensors in namings.items():
        path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
        found = pipeline.evaluate(network, **inputs, loras=[(path, 0.7)])
        assert pipeline._prompts.used_loras[0].unmatched == [], title
        expected = found if expected is None else expected
        assert np.abs(found - plain).max() > 0.05, title
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=title)


def random(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()} | {"timesteps": np.array([500.0])}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_unets(folder, tmp_path, family):
    part = {"sd1": "unet", "sdxl": "xl_unet"}[family]
    model = folder if family == "sd1" else tiny.write_family(tmp_path / "model", family)
    inputs = random(0, x=(1, 4, 8, 8), context=(1, 77, 32) if family == "sd1" else (1, 77, 64))
    if family == "sdxl":
        shapes = tiny.shapes()[part]
        width = next(shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))[1]
        inputs = random(0, x=(1, 4, 8, 8), context=(1, 77, width), pooled=(1, 32))
    old = original(model / "unet" / "diffusion_pytorch_model.safetensors", "unet")
    everything, attention = adapters.matrices(part), adapters.matrices(part, ".attn1.", ".attn2.")

    def processor(name):
        layer = name.removesuffix(".0")
        return "unet." + ".processor.".join(layer.rsplit(".", 1))

    with sdcpp_py.Pipeline(model) as pipeline:
        same(
            pipeline,
            tmp_path,
            "unet",
            inputs,
            {
                "kohya": adapters.apart(everything, underscored("lora_unet_"), "kohya"),
                "kohya, original names": adapters.apart(everything, lambda name: underscored("lora_unet_")(old(name)), "kohya"),
                "PEFT": adapters.apart(everything, "unet.{}"),
                "PEFT, one of several": adapters.apart(everything, "unet.{}", "default"),
                "PEFT alone": adapters.apart(everything, "base_model.model.{}"),
                "compiled": adapters.apart(everything, "unet._orig_mod.{}"),
                "ComfyUI": adapters.apart(everything, lambda name: "diffusion_model." + old(name), "kohya"),
                "SimpleTuner": adapters.apart(everything, underscored("lycoris_"), "kohya"),
                "diffusers": adapters.apart(everything, "unet.{}", "diffusers"),
            },
        )
        same(
            pipeline,
            tmp_path,
            "unet",
            inputs,
            {
                "kohya": adapters.apart(attention, underscored("lora_unet_"), "kohya"),
                "processors": adapters.apart(attention, processor, "processor"),
                "bare": adapters.apart(attention, "{}", "bare"),
            },
        )


def test_a_text_encoders(tmp_path):
    model = tiny.write_family(tmp_path / "model", "sdxl")
    layers = {
        number: adapters.matrices(part, "self_attn", "mlp")
        for number, part in (("1", "text_encoder"), ("2", "xl_text_encoder_2"))
    }

    def of_both(first, second, kind):
        return adapters.apart(layers["1"], first, kind) | adapters.apart(layers["2"], second, kind)

    def full(prefix, name):
        return prefix + "text_model." + name.removeprefix("text_model.")

    def older(name):
        return full("text_encoder.", name).replace("_proj", "").replace("self_attn.", "self_attn.to_")

    def kohya(prefix):
        return lambda name: full(prefix, name).replace(".", "_")

    namings = {
        "kohya": of_both(kohya("lora_te1_"), kohya("lora_te2_"), "kohya"),
        "PEFT": of_both("text_encoder.{}", "text_encoder_2.{}", "peft"),
        "diffusers": of_both("text_encoder.{}", "text_encoder_2.{}", "layer"),
        "ComfyUI": of_both("text_encoders.clip_l.transformer.{}", "text_encoders.clip_g.transformer.{}", "kohya"),
    }
    with sdcpp_py.Pipeline(model) as pipeline:
        plain, expected = pipeline.prompt_states("a red circle"), None
        for title, tensors in namings.items():
            path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
            found = pipeline.prompt_states("a red circle", loras=[(path, 0.7)])
            assert pipeline._prompts.used_loras[0].unmatched == [], title
            expected = found if expected is None else expected
            half = found.shape[2] // 2
            assert min(np.abs((found - plain)[..., :half]).max(), np.abs((found - plain)[..., half:]).max()) > 0.01
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=title)
        attention = {name: weight for name, weight in layers["1"].items() if "self_attn" in name}
        for title, tensors in {
            "PEFT": adapters.apart(attention, "text_encoder.{}"),
            "older": adapters.apart(attention, older, "processor"),
        }.items():
            path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
            pipeline.prompt_states("a red circle", loras=[(path, 0.7)])
            assert pipeline._prompts.used_loras[0].unmatched == [], title


def test_a_fluxs(tmp_path):
    model = tiny.write_family(tmp_path / "model", "flux.1")
    everything = adapters.matrices("f_transformer")
    final = "norm_out.linear"

    def black_forest(name):
        for old, new in BLACK_FOREST:
            name = name.replace(old, new)
        if name.startswith("single_blocks."):
            return name.replace("norm.linear", "modulation.lin").replace("proj_out", "linear2")
        return name if name.startswith("double_blocks.") else name.replace("proj_out", "final_layer.linear")

    groups = {}
    for name in everything:
        stem = name.rsplit(".", 1)[0]
        if name.endswith("attn.to_q") and name.startswith("transformer_blocks."):
            groups[black_forest(stem.removesuffix(".attn")) + ".img_attn.qkv"] = [f"{stem}.to_{letter}" for letter in "qkv"]
            groups[black_forest(stem.removesuffix(".attn")) + ".txt_attn.qkv"] = [f"{stem}.add_{letter}_proj" for letter in "qkv"]
        elif name.endswith("attn.to_q"):
            block = stem.removesuffix(".attn")
            groups[black_forest(block) + ".linear1"] = [*(f"{stem}.to_{letter}" for letter in "qkv"), f"{block}.proj_mlp"]
    together = {part for parts in groups.values() for part in parts}
    others = {name: weight for name, weight in everything.items() if name not in together and name != final}

    def fused(prefix, separator="."):
        def name(layer):
            return prefix + layer.replace(".", separator)

        out = adapters.joined(everything, groups, name)
        out |= adapters.apart(others, lambda layer: name(black_forest(layer)), "kohya")
        down, up = adapters.factors(final, everything[final])
        scale, shift = np.split(np.float32(2) * up, 2)  # the halves stand in the other order there
        stem = name("final_layer.adaLN_modulation.1")
        return out | {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": np.concatenate([shift, scale])}

    shapes = tiny.shapes()["f_transformer"]
    inputs = random(
        0,
        x=(1, 16, 8, 8),
        context=(1, 12, shapes["context_embedder.weight"][1]),
        pooled=(1, shapes["time_text_embed.text_embedder.linear_1.weight"][1]),
    )
    inputs["guidance"] = np.array([3.5])
    with sdcpp_py.Pipeline(model) as pipeline:
        namings = {
            "PEFT": adapters.apart(everything, "transformer.{}"),
            "ai-toolkit": adapters.apart(everything, "transformer.{}", "kohya"),
            "OneTrainer": adapters.apart(everything, underscored("lora_transformer_"), "kohya"),
            "kohya": fused("lora_unet_", "_"),
            "fal": fused("base_model.model."),
            "ComfyUI": fused("diffusion_model."),
        }
        same(pipeline, tmp_path, "flux", inputs, namings)
        words = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out", "attn.add_", "attn.to_add_out", "proj_out")
        few = {name: w for name, w in everything.items() if any(word in name for word in words) and "." in name[:-8]}
        few = {name: w for name, w in few.items() if name != "proj_out"}
        xlabs = {}
        for name, weight in few.items():
            kind, number, layer = name.split(".", 2)
            block = f"{'double' if kind == 'transformer_blocks' else 'single'}_blocks.{number}.processor."
            place = {"attn.to_out.0": "proj_lora1", "attn.to_add_out": "proj_lora2", "proj_out": "proj_lora"}.get(layer)
            if place:
                xlabs |= adapters.apart({name: weight}, lambda _, stem=block + place: stem.removesuffix("_lora"), "peft")
            elif layer in ("attn.to_q", "attn.add_q_proj"):
                places = {
                    "attn.to_q": "qkv_lora1" if kind == "transformer_blocks" else "qkv_lora",
                    "attn.add_q_proj": "qkv_lora2",
                }
                parts = [name.replace("_q", f"_{letter}") for letter in "qkv"]
                xlabs |= adapters.joined(everything, {block + places[layer]: parts}, str, ("down.weight", "up.weight"))
        renamed = {}
        for key, array in xlabs.items():
            key = key.replace(".lora_A.", ".down.").replace(".lora_B.", ".up.")
            renamed[key.replace("processor.proj.", "processor.proj_lora.")] = array
        same(pipeline, tmp_path, "flux", inputs, {"PEFT": adapters.apart(few, "transformer.{}"), "XLabs": renamed})


def test_a_z_images(tmp_path):
    model = tiny.write_family(tmp_path / "model", "z-image")
    everything = adapters.matrices("z_transformer")
    groups = {
        name.replace("to_q", "qkv"): [name.replace("to_q", f"to_{letter}") for letter in "qkv"]
        for name in everything
        if name.endswith("to_q")
    }
    together = {part for parts in groups.values() for part in parts}
    others = {name: weight for name, weight in everything.items() if name not in together}

    def released(name):
        for old, new in (("to_out.0", "out"), ("all_x_embedder.2-1", "x_embedder"), ("all_final_layer.2-1", "final_layer")):
            name = name.replace(old, new)
        return name

    def fused(prefix, separator="."):
        def name(layer):
            return prefix + released(layer).replace(".", separator)

        return adapters.joined(everything, groups, name) | adapters.apart(others, name, "kohya")

    both = adapters.apart(everything, "transformer.{}")
    doubled = both | {f"transformer.{key}": array for key, array in fused("").items() if "qkv" in key}
    inputs = random(0, x=(1, 16, 8, 8), context=(1, 40, 32))
    with sdcpp_py.Pipeline(model) as pipeline:
        namings = {
            "PEFT": both,
            "generic": fused("diffusion_model."),
            "kohya": fused("lora_unet_", "_"),
            "DiffSynth": adapters.apart(everything, "pipe.dit.{}", "default"),
            "both apart and joined": doubled,
        }
        same(pipeline, tmp_path, "z_image", inputs, namings)


def test_numbers_in_the_metadata_count(folder, tmp_path):
    layers = adapters.matrices("unet", "attn1")
    bare = adapters.apart(layers, "unet.{}", alpha=3.0)  # a scale of 1
    expected = tiny.write_safetensors(tmp_path / "alpha.safetensors", adapters.apart(layers, "unet.{}", alpha=12.0))
    rooted = tiny.write_safetensors(tmp_path / "root.safetensors", adapters.apart(layers, "unet.{}", alpha=3 * 12 / 3**0.5))
    inputs = random(0, x=(1, 4, 8, 8), context=(1, 77, 32))
    with sdcpp_py.Pipeline(folder) as pipeline:
        for more, wanted in (("", expected), (', "unet.use_rslora": true', rooted)):
            metadata = {"lora_adapter_metadata": f'{{"unet.r": 3, "unet.lora_alpha": 12{more}}}'}
            path = tiny.write_safetensors(tmp_path / "with.safetensors", bare, metadata)
            found = pipeline.evaluate("unet", **inputs, loras=[path])
            np.testing.assert_allclose(found, pipeline.evaluate("unet", **inputs, loras=[wanted]), rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "FLUX.1"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "FLUX.1"),
        ("diffusion_model.layers.0.attention.qkv", "Z-Image"),
        ("transformer.transformer_blocks.0.img_mlp.net.0.proj", "Qwen-Image"),
        ("diffusion_model.blocks.0.cross_attn.q", "Wan"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "Stable Diffusion XL"),
        ("something.else", "another kind of model"),
    ],
)
def test_another_familys_are_told(folder, tmp_path, key, title):
    tensors = {f"{key}.lora_down.weight": np.ones((2, 8), np.float32), f"{key}.lora_up.weight": np.ones((8, 2), np.float32)}
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", tensors)
    with sdcpp_py.Pipeline(folder) as pipeline, pytest.raises(errors.UnsupportedModelError, match=f"is a LoRA for {title}"):
        pipeline.evaluate("unet", **random(0, x=(1, 4, 8, 8), context=(1, 77, 32)), loras=[path])
