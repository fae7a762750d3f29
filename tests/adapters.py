"""Files of LoRAs and their kin for tiny models, and what they make of the weights, in numpy."""

import zlib

import numpy as np
import tiny


def rows_of(weight):
    """The weight as [out, columns]."""
    return weight.reshape(weight.shape[0], -1)


def factors(name, weight, rank=3):
    """down [rank, columns] and up [out, rank], always the same for the same layer."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    down = rng.standard_normal((rank, rows_of(weight).shape[1])).astype(np.float32) * np.float32(0.2)
    up = rng.standard_normal((weight.shape[0], rank)).astype(np.float32) * np.float32(0.2)
    return down, up


def matrices(part, *words):
    """The layers of a tiny part whose weights are matrices or kernels, by diffusers' names; those with one of ``words``."""
    return {
        name.removesuffix(".weight"): weight
        for name, weight in tiny.part(part).items()
        if name.endswith(".weight") and weight.ndim >= 2 and (not words or any(word in name for word in words))
    }


def kohya(layers, prefix, rename=lambda name: name, alpha=6.0, rank=3):
    """A plain LoRA of these layers as kohya's trainer writes it."""
    out = {}
    for name, weight in layers.items():
        down, up = factors(name, weight, rank)
        stem = prefix + rename(name).replace(".", "_")
        out[f"{stem}.lora_down.weight"] = down.reshape(rank, *weight.shape[1:])
        out[f"{stem}.lora_up.weight"] = up.reshape(*up.shape, *[1] * (weight.ndim - 2))
        out[f"{stem}.alpha"] = np.array(alpha, np.float32)
    return out


def baked(part, layers, weight, alpha=6.0, rank=3):
    """The part's tensors with that LoRA in them."""
    out = tiny.part(part)
    for name, value in layers.items():
        down, up = factors(name, value, rank)
        delta = np.float32(weight * alpha / rank) * (up @ down)
        out[f"{name}.weight"] = (value + delta.reshape(value.shape)).astype(np.float32)
    return out


def apart(layers, name="{}", kind="peft", rank=3, alpha=6.0):
    """A plain LoRA of these layers with dots in its names; ``name`` is a pattern or a function. Without an alpha, so that
    the scale is in the factors, unless the kind is "kohya"."""
    endings = {
        "peft": (".lora_A.weight", ".lora_B.weight"),
        "default": (".lora_A.default.weight", ".lora_B.default.weight"),
        "kohya": (".lora_down.weight", ".lora_up.weight"),
        "diffusers": (".lora.down.weight", ".lora.up.weight"),
        "processor": ("_lora.down.weight", "_lora.up.weight"),
        "layer": (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        "bare": (".lora_A", ".lora_B"),
    }[kind]
    out = {}
    for layer, weight in layers.items():
        down, up = factors(layer, weight, rank)
        stem = name(layer) if callable(name) else name.format(layer)
        scale = np.float32(1 if kind == "kohya" else alpha / rank)
        out[stem + endings[0]] = down.reshape(rank, *weight.shape[1:])
        out[stem + endings[1]] = scale * up.reshape(*up.shape, *[1] * (weight.ndim - 2))
        if kind == "kohya":
            out[f"{stem}.alpha"] = np.array(alpha, np.float32)
    return out


def joined(layers, groups, name, kind=("lora_down.weight", "lora_up.weight"), rank=3, alpha=6.0):
    """A plain LoRA of layers that stand one behind the other in one: ``groups`` gives for each joint name its parts."""
    out = {}
    for whole, parts in groups.items():
        downs, ups = zip(*(factors(part, layers[part], rank) for part in parts))
        up = np.zeros((sum(one.shape[0] for one in ups), rank * len(parts)), np.float32)
        row = 0
        for number, one in enumerate(ups):
            up[row : row + one.shape[0], number * rank : (number + 1) * rank] = np.float32(alpha / rank) * one
            row += one.shape[0]
        out[f"{name(whole)}.{kind[0]}"] = np.concatenate(downs)
        out[f"{name(whole)}.{kind[1]}"] = up
    return out
