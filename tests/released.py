"""Names and shapes of released networks' tensors, in the namings that their files have. Shapes are outermost first."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources

import tiny

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name: str, out: int, into: int, side: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}


def under(prefix: str, shapes: Mapping) -> dict:
    return {prefix + name: value for name, value in shapes.items()}


def renamed(shapes: Mapping, *rules: tuple[str, str]) -> dict:
    """Regular expressions and their replacements, one after the other."""
    out = {}
    for name, value in shapes.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        out[name] = value
    return out


@functools.cache
def packaged(family: str) -> Shapes:
    """A denoiser's tensors under diffusers' names, from the package's own table."""
    data = resources.files("sdcpp_py") / "data" / "tensor_shapes.json.gz"
    return {name: tuple(shape) for name, shape in json.loads(gzip.decompress(data.read_bytes()))[family].items()}


# UNets ------------------------------------------------------------------------------------------------------------------------


def _resblock(name: str, into: int, out: int, width: int) -> Shapes:
    shapes = norm(f"{name}.in_layers.0", into) | conv(f"{name}.in_layers.2", out, into)
    shapes |= linear(f"{name}.emb_layers.1", out, width * 4)
    shapes |= norm(f"{name}.out_layers.0", out) | conv(f"{name}.out_layers.3", out, out)
    return shapes | (conv(f"{name}.skip_connection", out, into, 1) if into != out else {})


def _spatial(name: str, width: int, depth: int, context: int, flat: bool) -> Shapes:
    project = (lambda n: linear(n, width, width)) if flat else (lambda n: conv(n, width, width, 1))
    shapes = norm(f"{name}.norm", width) | project(f"{name}.proj_in")
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, keys in (("attn1", width), ("attn2", context)):
            shapes |= linear(f"{block}.{attention}.to_q", width, width, False)
            shapes |= linear(f"{block}.{attention}.to_k", width, keys, False)
            shapes |= linear(f"{block}.{attention}.to_v", width, keys, False)
            shapes |= linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= linear(f"{block}.ff.net.0.proj", width * 8, width) | linear(f"{block}.ff.net.2", width, width * 4)
        for n in (1, 2, 3):
            shapes |= norm(f"{block}.norm{n}", width)
    return shapes | project(f"{name}.proj_out")


def unet(
    *,
    width: int = 320,
    widths: Sequence[int] = (1, 2, 4, 4),
    down: Sequence[Sequence[int]] = ((1, 1), (1, 1), (1, 1), (0, 0)),
    middle: int | None = 1,
    up: Sequence[Sequence[int]] | None = None,
    context: int = 768,
    added: int = 0,
    flat: bool = False,
    into: int = 4,
) -> Shapes:
    """Original names. `down` and `up` are depths of transformers, by level from the outside; `middle` None: no attention."""
    ups = up or [(*level, level[-1]) for level in down]
    shapes = linear("time_embed.0", width * 4, width) | linear("time_embed.2", width * 4, width * 4)
    if added:
        shapes |= linear("label_emb.0.0", width * 4, added) | linear("label_emb.0.2", width * 4, width * 4)
    shapes |= conv("input_blocks.0.0", width, into)
    skips, now, at = [width], width, 0
    for level, times in enumerate(widths):
        for depth in down[level]:
            at += 1
            shapes |= _resblock(f"input_blocks.{at}.0", now, width * times, width)
            now = width * times
            if depth:
                shapes |= _spatial(f"input_blocks.{at}.1", now, depth, context, flat)
            skips.append(now)
        if level + 1 < len(widths):
            at += 1
            shapes |= conv(f"input_blocks.{at}.0.op", now, now)
            skips.append(now)
    shapes |= _resblock("middle_block.0", now, now, width)
    if middle is not None:
        shapes |= _spatial("middle_block.1", now, middle, context, flat) | _resblock("middle_block.2", now, now, width)
    at = 0
    for level, times in reversed(list(enumerate(widths))):
        for number, depth in enumerate(ups[level]):
            shapes |= _resblock(f"output_blocks.{at}.0", now + skips.pop(), width * times, width)
            now = width * times
            if depth:
                shapes |= _spatial(f"output_blocks.{at}.1", now, depth, context, flat)
            if level and number + 1 == len(ups[level]):
                shapes |= conv(f"output_blocks.{at}.{2 if depth else 1}.conv", now, now)
            at += 1
    return shapes | norm("out.0", width) | conv("out.2", 4, width)


XL = {"widths": (1, 2, 4), "context": 2048, "added": 2816, "flat": True}


def sd1_unet(into: int = 4) -> Shapes:
    return unet(into=into)


def sd2_unet(into: int = 4, added: int = 0) -> Shapes:
    return unet(context=1024, flat=True, into=into, added=added)


def sdxl_unet(into: int = 4) -> Shapes:
    return unet(**XL, down=((0, 0), (2, 2), (10, 10)), middle=10, into=into)


def refiner_unet() -> Shapes:
    return unet(width=384, down=((0, 0), (4, 4), (4, 4), (0, 0)), middle=4, context=1280, added=2560, flat=True)


def ssd_1b_unet() -> Shapes:
    return unet(**XL, down=((0, 0), (2, 2), (4, 4)), middle=None, up=((0, 0, 0), (2, 1, 1), (4, 4, 10)))


def vega_unet() -> Shapes:
    return unet(**XL, down=((0, 0), (1, 1), (2, 2)), middle=None, up=((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def sd2_unet_of_diffusers() -> Shapes:
    out = {}
    for name, shape in packaged("sd1").items():
        if re.search(r"attn2\.to_[kv]\.", name):
            shape = (shape[0], 1024)
        elif re.search(r"attentions.*proj_(in|out)\.weight", name):
            shape = shape[:2]
        out[name] = shape
    return out


# Autoencoders -----------------------------------------------------------------------------------------------------------------


def vae(channels: int = 4, quantized: bool = True) -> Shapes:
    """Original names."""

    def block(name: str, into: int, out: int) -> Shapes:
        shapes = norm(f"{name}.norm1", into) | conv(f"{name}.conv1", out, into)
        shapes |= norm(f"{name}.norm2", out) | conv(f"{name}.conv2", out, out)
        return shapes | (conv(f"{name}.nin_shortcut", out, into, 1) if into != out else {})

    def middle(side: str) -> Shapes:
        shapes = block(f"{side}.mid.block_1", 512, 512) | block(f"{side}.mid.block_2", 512, 512)
        shapes |= norm(f"{side}.mid.attn_1.norm", 512)
        for part in ("q", "k", "v", "proj_out"):
            shapes |= conv(f"{side}.mid.attn_1.{part}", 512, 512, 1)
        return shapes

    widths = (128, 256, 512, 512)
    shapes, now = conv("encoder.conv_in", 128, 3), 128
    for level, width in enumerate(widths):
        for number in range(2):
            shapes |= block(f"encoder.down.{level}.block.{number}", now, width)
            now = width
        if level < 3:
            shapes |= conv(f"encoder.down.{level}.downsample.conv", now, now)
    shapes |= middle("encoder") | norm("encoder.norm_out", 512) | conv("encoder.conv_out", channels * 2, 512)
    shapes |= conv("decoder.conv_in", 512, channels) | middle("decoder")
    for level, width in reversed(list(enumerate(widths))):
        for number in range(3):
            shapes |= block(f"decoder.up.{level}.block.{number}", now, width)
            now = width
        if level:
            shapes |= conv(f"decoder.up.{level}.upsample.conv", now, now)
    shapes |= norm("decoder.norm_out", 128) | conv("decoder.conv_out", 3, 128)
    if quantized:
        shapes |= conv("quant_conv", channels * 2, channels * 2, 1) | conv("post_quant_conv", channels, channels, 1)
    return shapes


def vae_of_diffusers(channels: int = 4, quantized: bool = True, old: bool = False) -> Shapes:
    """`old`: the attention's names before diffusers 0.12."""
    attention = ("query", "key", "value", "proj_attn") if old else ("to_q", "to_k", "to_v", "to_out.0")
    own = vae(channels, quantized)
    shapes = {name: shape[:2] if ".attn_1." in name else shape for name, shape in own.items()}
    for level in range(4):
        shapes = renamed(
            shapes,
            (rf"^decoder\.up\.{level}\.block\.", f"decoder.up_blocks.{3 - level}.resnets."),
            (rf"^decoder\.up\.{level}\.upsample\.", f"decoder.up_blocks.{3 - level}.upsamplers.0."),
        )
    return renamed(
        shapes,
        (r"\.down\.(\d)\.block\.", r".down_blocks.\1.resnets."),
        (r"\.down\.(\d)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.attn_1\.norm\.", ".attn_1.group_norm."),
        *((rf"\.attn_1\.{name}\.", f".attn_1.{new}.") for name, new in zip(("q", "k", "v", "proj_out"), attention)),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"\.norm_out\.", ".conv_norm_out."),
        (r"nin_shortcut", "conv_shortcut"),
    )


def taesd_decoder(channels: int = 4) -> Shapes:
    """The original file, whose layer 0 is its clamp."""
    out = {}
    for name, shape in tiny.shapes()["taesd"].items():
        if not name.startswith("decoder."):
            continue
        _, _, number, *rest = name.split(".")
        wide = tuple(64 if side == 16 else side for side in shape)
        if number == "0" and rest == ["weight"]:
            wide = (64, channels, 3, 3)
        out[".".join([str(int(number) + 1), *rest])] = wide
    return out


# Text encoders ----------------------------------------------------------------------------------------------------------------


def clip(width: int, layers: int, *, projected: bool = False, ids: bool = True) -> Shapes:
    """Transformers' names under "text_model."."""
    shapes: Shapes = {"text_model.embeddings.position_ids": (1, 77)} if ids else {}
    shapes |= {"text_model.embeddings.token_embedding.weight": (49408, width)}
    shapes |= {"text_model.embeddings.position_embedding.weight": (77, width)}
    for number in range(layers):
        layer = f"text_model.encoder.layers.{number}"
        for part in ("q", "k", "v", "out"):
            shapes |= linear(f"{layer}.self_attn.{part}_proj", width, width)
        shapes |= norm(f"{layer}.layer_norm1", width) | norm(f"{layer}.layer_norm2", width)
        shapes |= linear(f"{layer}.mlp.fc1", width * 4, width) | linear(f"{layer}.mlp.fc2", width, width * 4)
    shapes |= norm("text_model.final_layer_norm", width)
    return shapes | ({"text_projection.weight": (width, width)} if projected else {})


def open_clip(width: int, layers: int, projected: bool = True) -> Shapes:
    shapes: Shapes = {"positional_embedding": (77, width), "token_embedding.weight": (49408, width)}
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        shapes |= linear(f"{block}.mlp.c_fc", width * 4, width) | linear(f"{block}.mlp.c_proj", width, width * 4)
    shapes |= norm("ln_final", width)
    return shapes | ({"text_projection": (width, width), "logit_scale": ()} if projected else {})


CLIP_L, CLIP_H, CLIP_G = (768, 12), (1024, 24), (1280, 32)


def vision_tower() -> Shapes:
    """The first tensors of CLIP-L's other half."""
    return {
        "vision_model.embeddings.class_embedding": (1024,),
        "vision_model.encoder.layers.0.mlp.fc1.weight": (4096, 1024),
        "visual_projection.weight": (768, 1024),
        "text_projection.weight": (768, 768),
        "logit_scale": (),
    }


def t5() -> Shapes:
    shapes: Shapes = {"shared.weight": (32128, 4096), "encoder.embed_tokens.weight": (32128, 4096)}
    for number in range(24):
        layer = f"encoder.block.{number}.layer"
        for part in "qkvo":
            shapes |= linear(f"{layer}.0.SelfAttention.{part}", 4096, 4096, False)
        if number == 0:
            shapes |= {f"{layer}.0.SelfAttention.relative_attention_bias.weight": (32, 64)}
        shapes |= {f"{layer}.0.layer_norm.weight": (4096,), f"{layer}.1.layer_norm.weight": (4096,)}
        for part in ("wi_0", "wi_1"):
            shapes |= linear(f"{layer}.1.DenseReluDense.{part}", 10240, 4096, False)
        shapes |= linear(f"{layer}.1.DenseReluDense.wo", 4096, 10240, False)
    return shapes | {"encoder.final_layer_norm.weight": (4096,)}


def t5_of_llama_cpp() -> Shapes:
    return {
        name: shape
        for name, shape in renamed(
            t5(),
            (r"^encoder\.block\.(\d+)\.layer\.\d\.", r"enc.blk.\1."),
            (r"SelfAttention\.relative_attention_bias\.", "attn_rel_b."),
            (r"SelfAttention\.([qkvo])\.", r"attn_\1."),
            (r"DenseReluDense\.wi_0\.", "ffn_gate."),
            (r"DenseReluDense\.wi_1\.", "ffn_up."),
            (r"DenseReluDense\.wo\.", "ffn_down."),
            (r"encoder\.final_layer_norm\.", "enc.output_norm."),
            (r"^shared\.", "token_embd."),
        ).items()
        if "layer_norm" not in name and "embed_tokens" not in name
    } | {f"enc.blk.{n}.{kind}_norm.weight": (4096,) for n in range(24) for kind in ("attn", "ffn")}


def qwen3_4b() -> Shapes:
    shapes: Shapes = {"model.embed_tokens.weight": (151936, 2560)}
    for number in range(36):
        layer = f"model.layers.{number}"
        for part, out in (("q", 4096), ("k", 1024), ("v", 1024)):
            shapes |= linear(f"{layer}.self_attn.{part}_proj", out, 2560, False)
        shapes |= linear(f"{layer}.self_attn.o_proj", 2560, 4096, False)
        shapes |= {f"{layer}.self_attn.{part}_norm.weight": (128,) for part in "qk"}
        for part in ("gate", "up"):
            shapes |= linear(f"{layer}.mlp.{part}_proj", 9728, 2560, False)
        shapes |= linear(f"{layer}.mlp.down_proj", 2560, 9728, False)
        shapes |= {f"{layer}.{kind}_layernorm.weight": (2560,) for kind in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (2560,)}


def qwen3_vl_4b() -> Shapes:
    """The language part, and the first of those that see."""
    shapes = renamed(qwen3_4b(), (r"^model\.", "model.language_model."))
    return shapes | {"model.visual.patch_embed.proj.weight": (1024, 3, 2, 16, 16), "model.visual.pos_embed.weight": (2304, 1024)}


def qwen2_vl_7b() -> Shapes:
    """Qwen2.5-VL: the language part, and the first of those that see."""
    shapes: Shapes = {"model.embed_tokens.weight": (152064, 3584), "visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14)}
    for number in range(28):
        layer = f"model.layers.{number}"
        for part, out in (("q", 3584), ("k", 512), ("v", 512)):
            shapes |= linear(f"{layer}.self_attn.{part}_proj", out, 3584)
        shapes |= linear(f"{layer}.self_attn.o_proj", 3584, 3584, False)
        for part in ("gate", "up"):
            shapes |= linear(f"{layer}.mlp.{part}_proj", 18944, 3584, False)
        shapes |= linear(f"{layer}.mlp.down_proj", 3584, 18944, False)
        shapes |= {f"{layer}.{kind}_layernorm.weight": (3584,) for kind in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (3584,), "lm_head.weight": (152064, 3584)}


def of_llama_cpp(shapes: Mapping) -> dict:
    """A language model's names as llama.cpp has them."""
    return renamed(
        shapes,
        (r"^model\.embed_tokens\.", "token_embd."),
        (r"^model\.norm\.", "output_norm."),
        (r"^model\.layers\.", "blk."),
        (r"self_attn\.([qk])_norm\.", r"attn_\1_norm."),
        (r"self_attn\.([qkv])_proj\.", r"attn_\1."),
        (r"self_attn\.o_proj\.", "attn_output."),
        (r"mlp\.(gate|up|down)_proj\.", r"ffn_\1."),
        (r"input_layernorm\.", "attn_norm."),
        (r"post_attention_layernorm\.", "ffn_norm."),
    )


def llama_8b() -> Shapes:
    shapes: Shapes = {"token_embd.weight": (128256, 4096), "output.weight": (128256, 4096), "output_norm.weight": (4096,)}
    for number in range(32):
        block = f"blk.{number}"
        for part, out in (("attn_q", 4096), ("attn_k", 1024), ("attn_v", 1024), ("attn_output", 4096)):
            shapes |= linear(f"{block}.{part}", out, 4096, False)
        shapes |= linear(f"{block}.ffn_gate", 14336, 4096, False) | linear(f"{block}.ffn_up", 14336, 4096, False)
        shapes |= linear(f"{block}.ffn_down", 4096, 14336, False)
        shapes |= {f"{block}.{kind}_norm.weight": (4096,) for kind in ("attn", "ffn")}
    return shapes


# Transformers -----------------------------------------------------------------------------------------------------------------


def z_image() -> Shapes:
    """Original names, which fuse q, k and v."""
    shapes = renamed(
        packaged("z-image"),
        (r"^all_x_embedder\.2-1\.", "x_embedder."),
        (r"^all_final_layer\.2-1\.", "final_layer."),
        (r"attention\.to_out\.0\.", "attention.out."),
        (r"attention\.norm_([qk])\.", r"attention.\1_norm."),
        (r"attention\.to_q\.", "attention.qkv."),
    )
    out = {}
    for name, shape in shapes.items():
        if "attention.to_" not in name:
            out[name] = (3 * shape[0], shape[1]) if "qkv" in name else shape
    return out


def _black_forest(shapes: Mapping) -> dict:
    """The original names of FLUX's blocks, before anything is joined."""
    return renamed(
        shapes,
        (r"^x_embedder\.", "img_in."),
        (r"^context_embedder\.", "txt_in."),
        (r"^time_text_embed\.timestep_embedder\.", "time_in."),
        (r"^time_text_embed\.guidance_embedder\.", "guidance_in."),
        (r"^time_text_embed\.text_embedder\.", "vector_in."),
        (r"_in\.linear_1\.", "_in.in_layer."),
        (r"_in\.linear_2\.", "_in.out_layer."),
        (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^proj_out\.", "final_layer.linear."),
        (r"^single_transformer_blocks\.(\d+)\.norm\.linear\.", r"single_blocks.\1.modulation.lin."),
        (r"^single_transformer_blocks\.(\d+)\.proj_out\.", r"single_blocks.\1.linear2."),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.to_q\.", r"single_blocks.\1.linear1."),
        (r"^transformer_blocks\.", "double_blocks."),
        (r"\.norm1\.linear\.", ".img_mod.lin."),
        (r"\.norm1_context\.linear\.", ".txt_mod.lin."),
        (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
        (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
        (r"\.attn\.to_q\.", ".img_attn.qkv."),
        (r"\.attn\.add_q_proj\.", ".txt_attn.qkv."),
        (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
        (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
        (r"\.ff\.net\.0\.proj\.", ".img_mlp.0."),
        (r"\.ff\.net\.2\.", ".img_mlp.2."),
        (r"\.ff_context\.net\.0\.proj\.", ".txt_mlp.0."),
        (r"\.ff_context\.net\.2\.", ".txt_mlp.2."),
    )


def flux(guided: bool = True) -> Shapes:
    """Original names, which fuse."""
    shapes = _black_forest({name: shape for name, shape in packaged("flux.1").items() if guided or "guidance" not in name})
    out = {}
    for name, shape in shapes.items():
        if re.search(r"\.attn\.(to|add)_[kv]|proj_mlp", name):
            continue
        rows = 9216 if ".qkv." in name else 21504 if ".linear1." in name else shape[0]
        out[name] = (rows, *shape[1:])
    return out


def chroma() -> Shapes:
    """Original names, which fuse."""
    shapes = renamed(
        _black_forest(packaged("chroma")),
        (r"^(distilled_guidance_layer\.norms\.\d+)\.weight", r"\1.scale"),
        (r"^(distilled_guidance_layer\.layers\.\d+)\.linear_1", r"\1.in_layer"),
        (r"^(distilled_guidance_layer\.layers\.\d+)\.linear_2", r"\1.out_layer"),
    )
    out = {}
    for name, shape in shapes.items():
        if not re.search(r"\.attn\.(to|add)_[kv]|proj_mlp", name):
            rows = 9216 if ".qkv." in name else 21504 if ".linear1." in name else shape[0]
            out[name] = (rows, *shape[1:])
    return out


def flux_2_klein() -> Shapes:
    """4B, original names, which fuse."""
    shapes = renamed(
        packaged("flux.2-klein-4b"),
        (r"^x_embedder\.", "img_in."),
        (r"^context_embedder\.", "txt_in."),
        (r"^time_guidance_embed\.timestep_embedder\.linear_1\.", "time_in.in_layer."),
        (r"^time_guidance_embed\.timestep_embedder\.linear_2\.", "time_in.out_layer."),
        (r"_modulation(_img|_txt|)\.linear\.", r"_modulation\1.lin."),
        (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^proj_out\.", "final_layer.linear."),
        (r"^single_transformer_blocks\.(\d+)\.attn\.to_qkv_mlp_proj\.", r"single_blocks.\1.linear1."),
        (r"^single_transformer_blocks\.(\d+)\.attn\.to_out\.", r"single_blocks.\1.linear2."),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
        (r"^transformer_blocks\.", "double_blocks."),
        (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
        (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
        (r"\.attn\.to_q\.", ".img_attn.qkv."),
        (r"\.attn\.add_q_proj\.", ".txt_attn.qkv."),
        (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
        (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
        (r"\.ff\.linear_in\.", ".img_mlp.0."),
        (r"\.ff\.linear_out\.", ".img_mlp.2."),
        (r"\.ff_context\.linear_in\.", ".txt_mlp.0."),
        (r"\.ff_context\.linear_out\.", ".txt_mlp.2."),
    )
    out = {name: shape for name, shape in shapes.items() if not re.search(r"\.attn\.(to|add)_[kv]", name)}
    return {name: (3 * shape[0], *shape[1:]) if ".qkv." in name else shape for name, shape in out.items()}


def flux_2_vae() -> Shapes:
    shapes = {name: shape for name, shape in vae(32).items() if not re.match(r"(post_)?quant_conv", name)}
    shapes |= conv("encoder.quant_conv", 64, 64, 1) | conv("decoder.post_quant_conv", 32, 32, 1)
    return shapes | {"bn.running_mean": (128,), "bn.running_var": (128,), "bn.num_batches_tracked": ()}


def krea() -> Shapes:
    """Original names."""
    shapes = renamed(
        packaged("krea-2"),
        (r"^img_in\.", "first."),
        (r"^time_embed\.linear_1\.", "tmlp.0."),
        (r"^time_embed\.linear_2\.", "tmlp.2."),
        (r"^time_mod_proj\.", "tproj.1."),
        (r"^txt_in\.norm\.weight", "txtmlp.0.scale"),
        (r"^txt_in\.linear_1\.", "txtmlp.1."),
        (r"^txt_in\.linear_2\.", "txtmlp.3."),
        (r"^text_fusion\.", "txtfusion."),
        (r"^transformer_blocks\.", "blocks."),
        (r"^final_layer\.norm\.weight", "last.norm.scale"),
        (r"^final_layer\.scale_shift_table", "last.modulation.lin"),
        (r"^final_layer\.", "last."),
        (r"\.attn\.to_([qkv])\.", r".attn.w\1."),
        (r"\.attn\.to_out\.0\.", ".attn.wo."),
        (r"\.attn\.to_gate\.", ".attn.gate."),
        (r"\.attn\.norm_([qk])\.weight", r".attn.qknorm.\1norm.scale"),
        (r"\.ff\.", ".mlp."),
        (r"\.norm1\.weight", ".prenorm.scale"),
        (r"\.norm2\.weight", ".postnorm.scale"),
        (r"\.scale_shift_table", ".mod.lin"),
    )
    return {name: (shape[0] * shape[1],) if name.endswith("blocks.mod.lin") else shape for name, shape in shapes.items()}


def sd3(name: str) -> Shapes:
    """Original names, which fuse."""
    shapes = renamed(
        packaged(name),
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj\.", "x_embedder.proj."),
        (r"^time_text_embed\.timestep_embedder\.linear_1\.", "t_embedder.mlp.0."),
        (r"^time_text_embed\.timestep_embedder\.linear_2\.", "t_embedder.mlp.2."),
        (r"^time_text_embed\.text_embedder\.linear_1\.", "y_embedder.mlp.0."),
        (r"^time_text_embed\.text_embedder\.linear_2\.", "y_embedder.mlp.2."),
        (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^proj_out\.", "final_layer.linear."),
        (r"^transformer_blocks\.", "joint_blocks."),
        (r"\.norm1\.linear\.", ".x_block.adaLN_modulation.1."),
        (r"\.norm1_context\.linear\.", ".context_block.adaLN_modulation.1."),
        (r"\.attn(2?)\.to_q\.", r".x_block.attn\1.qkv."),
        (r"\.attn\.add_q_proj\.", ".context_block.attn.qkv."),
        (r"\.attn(2?)\.to_out\.0\.", r".x_block.attn\1.proj."),
        (r"\.attn\.to_add_out\.", ".context_block.attn.proj."),
        (r"\.attn(2?)\.norm_([qk])\.", r".x_block.attn\1.ln_\2."),
        (r"\.attn\.norm_added_([qk])\.", r".context_block.attn.ln_\1."),
        (r"\.ff\.net\.0\.proj\.", ".x_block.mlp.fc1."),
        (r"\.ff\.net\.2\.", ".x_block.mlp.fc2."),
        (r"\.ff_context\.net\.0\.proj\.", ".context_block.mlp.fc1."),
        (r"\.ff_context\.net\.2\.", ".context_block.mlp.fc2."),
    )
    out = {key: shape for key, shape in shapes.items() if not re.search(r"\.attn2?\.(to|add)_[kv]", key)}
    return {key: (3 * shape[0], *shape[1:]) if ".qkv." in key else shape for key, shape in out.items()}


def wan_vae() -> Shapes:
    """Original names; kernels have a side for time."""

    def timed(name: str, out: int, into: int, side: int = 3) -> Shapes:
        return {f"{name}.weight": (out, into, side, side, side), f"{name}.bias": (out,)}

    def block(name: str, into: int, out: int) -> Shapes:
        shapes = {f"{name}.residual.0.gamma": (into, 1, 1, 1), f"{name}.residual.3.gamma": (out, 1, 1, 1)}
        shapes |= timed(f"{name}.residual.2", out, into) | timed(f"{name}.residual.6", out, out)
        return shapes | (timed(f"{name}.shortcut", out, into, 1) if into != out else {})

    def middle(side: str) -> Shapes:
        shapes = block(f"{side}.middle.0", 384, 384) | block(f"{side}.middle.2", 384, 384)
        shapes |= {f"{side}.middle.1.norm.gamma": (384, 1, 1)}
        return shapes | conv(f"{side}.middle.1.to_qkv", 1152, 384, 1) | conv(f"{side}.middle.1.proj", 384, 384, 1)

    shapes, now, number = timed("encoder.conv1", 96, 3), 96, 0
    for level, width in enumerate((96, 192, 384, 384)):
        for _ in range(2):
            shapes |= block(f"encoder.downsamples.{number}", now, width)
            now, number = width, number + 1
        if level < 3:
            shapes |= conv(f"encoder.downsamples.{number}.resample.1", now, now)
            if level:
                shapes |= {f"encoder.downsamples.{number}.time_conv.weight": (now, now, 3, 1, 1)}
                shapes |= {f"encoder.downsamples.{number}.time_conv.bias": (now,)}
            number += 1
    shapes |= middle("encoder") | {"encoder.head.0.gamma": (384, 1, 1, 1)} | timed("encoder.head.2", 32, 384)
    shapes |= timed("conv1", 32, 32, 1) | timed("conv2", 16, 16, 1) | timed("decoder.conv1", 384, 16) | middle("decoder")
    now, number = 384, 0
    for level, width in enumerate((384, 384, 192, 96)):
        for _ in range(3):
            shapes |= block(f"decoder.upsamples.{number}", now, width)
            now, number = width, number + 1
        if level < 3:
            shapes |= conv(f"decoder.upsamples.{number}.resample.1", now // 2, now)
            if level < 2:
                shapes |= {f"decoder.upsamples.{number}.time_conv.weight": (2 * now, now, 3, 1, 1)}
                shapes |= {f"decoder.upsamples.{number}.time_conv.bias": (2 * now,)}
            now, number = now // 2, number + 1
    return shapes | {"decoder.head.0.gamma": (96, 1, 1, 1)} | timed("decoder.head.2", 3, 96)


def lora() -> Shapes:
    """A LoRA of Stable Diffusion 1.x as kohya's scripts write it."""
    out: Shapes = {}
    for name, shape in packaged("sd1").items():
        if "attentions" not in name or not name.endswith(".weight") or len(shape) != 2:
            continue
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        out |= {f"{key}.lora_down.weight": (16, shape[1]), f"{key}.lora_up.weight": (shape[0], 16), f"{key}.alpha": ()}
    return out


def controlnet() -> Shapes:
    """The first tensors of an original ControlNet's file."""
    own = {name: shape for name, shape in sd1_unet().items() if name.startswith(("input_blocks.", "middle_block.", "time_"))}
    own |= conv("input_hint_block.0", 16, 3) | conv("zero_convs.0.0", 320, 320, 1) | conv("middle_block_out.0", 1280, 1280, 1)
    return under("control_model.", own)


# Adapters that see pictures ---------------------------------------------------------------------------------------------------


def vision(width: int, layers: int, inner: int, projected: int, patch: int = 14) -> Shapes:
    """A CLIP vision encoder under transformers' names."""
    start = "vision_model."
    shapes: Shapes = {
        f"{start}embeddings.class_embedding": (width,),
        f"{start}embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{start}embeddings.position_embedding.weight": (257, width),
        f"{start}embeddings.position_ids": (1, 257),
        "visual_projection.weight": (projected, width),
    }
    shapes |= norm(f"{start}pre_layrnorm", width) | norm(f"{start}post_layernorm", width)
    for i in range(layers):
        here = f"{start}encoder.layers.{i}."
        for part in ("q", "k", "v", "out"):
            shapes |= linear(f"{here}self_attn.{part}_proj", width, width)
        shapes |= norm(f"{here}layer_norm1", width) | norm(f"{here}layer_norm2", width)
        shapes |= linear(f"{here}mlp.fc1", inner, width) | linear(f"{here}mlp.fc2", width, inner)
    return shapes


def vit_h() -> Shapes:
    return vision(1280, 32, 5120, 1024)


def vit_big_g() -> Shapes:
    return vision(1664, 48, 8192, 1280)


# Widths of cross-attentions as IP-Adapters count them: the first blocks, the last ones, the middle.
SD1_ATTENTIONS = [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [1280]
SDXL_ATTENTIONS = [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10


def ip_adapter_keys(widths: list[int], context: int) -> Shapes:
    return {
        f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight": (width, context) for i, width in enumerate(widths) for part in ("k", "v")
    }


def ip_adapter(widths: list[int], context: int, seen: int) -> Shapes:
    return linear("image_proj.proj", 4 * context, seen) | norm("image_proj.norm", context) | ip_adapter_keys(widths, context)


def ip_adapter_plus(widths: list[int], context: int, width: int, inner: int) -> Shapes:
    shapes: Shapes = {"image_proj.latents": (1, 16, width)}
    shapes |= linear("image_proj.proj_in", width, 1280) | linear("image_proj.proj_out", context, width)
    shapes |= norm("image_proj.norm_out", context)
    for i in range(4):
        here = f"image_proj.layers.{i}."
        shapes |= norm(f"{here}0.norm1", width) | norm(f"{here}0.norm2", width) | norm(f"{here}1.0", width)
        shapes |= linear(f"{here}0.to_q", inner, width, bias=False) | linear(f"{here}0.to_kv", 2 * inner, width, bias=False)
        shapes |= linear(f"{here}0.to_out", width, inner, bias=False)
        shapes |= linear(f"{here}1.1", 4 * width, width, bias=False) | linear(f"{here}1.3", width, 4 * width, bias=False)
    return shapes | ip_adapter_keys(widths, context)


def ip_adapter_full_face() -> Shapes:
    shapes = linear("image_proj.proj.0", 1280, 1280) | linear("image_proj.proj.2", 768, 1280) | norm("image_proj.proj.3", 768)
    return shapes | ip_adapter_keys(SD1_ATTENTIONS, 768)
