"""Files of LoRAs and their kin for tiny models, and what they make of the weights, in numpy."""

import shutil
import zlib

import numpy as np
import tiny


def unet_inputs():
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((2, 4, 8, 8)),
        "context": rng.standard_normal((2, 77, 32)),
        "timesteps": np.array([500.0, 20.0]),
    }


def with_part(folder, target, name, tensors):
    """A copy of a model's folder with other tensors in one of its parts."""
    shutil.copytree(folder, target)
    stem = "model" if "text" in name else "diffusion_pytorch_model"
    tiny.write_safetensors(target / name / f"{stem}.safetensors", tensors)
    return target


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


class Kinds:
    """For each kind the tensors of a layer, by ending, and the weights that they make of the layer's at a weight."""

    @staticmethod
    def _numbers(name, *shape, size=0.2):
        rng = np.random.default_rng(zlib.crc32(f"{name} {shape}".encode()))
        return rng.standard_normal(shape).astype(np.float32) * np.float32(size)

    def _add(self, weight, delta):
        return lambda strength: weight + np.float32(strength) * delta.reshape(weight.shape)

    def lora(self, name, weight, rank=3, alpha=6.0):
        down, up = factors(name, weight, rank)
        tensors = {"lora_down.weight": down.reshape(rank, *weight.shape[1:]), "lora_up.weight": up, "alpha": np.float32(alpha)}
        return tensors, self._add(weight, alpha / rank * (up @ down))

    def tucker(self, name, weight, rank=3):
        if weight.ndim < 4:
            return self.lora(name, weight, rank)
        out, into, *area = weight.shape
        down, up = self._numbers(name, rank, into), self._numbers(name, out, rank)
        middle = self._numbers(name, rank, rank, *area, size=1)
        tensors = {"lora_down.weight": down[..., None, None], "lora_up.weight": up[..., None, None], "lora_mid.weight": middle}
        return tensors, self._add(weight, np.einsum("mnhw,om,ni->oihw", middle, up, down))

    def loha(self, name, weight, rank=3, alpha=1.5):
        columns = rows_of(weight).shape[1]
        parts = {
            "hada_w1_a": self._numbers(name + "1", weight.shape[0], rank),
            "hada_w1_b": self._numbers(name + "1", rank, columns),
            "hada_w2_a": self._numbers(name + "2", weight.shape[0], rank, size=2),
            "hada_w2_b": self._numbers(name + "2", rank, columns, size=2),
        }
        delta = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
        return {**parts, "alpha": np.float32(alpha)}, self._add(weight, alpha / rank * delta)

    def loha_tucker(self, name, weight, rank=3):
        if weight.ndim < 4:
            return self.loha(name, weight, rank)
        out, into, *area = weight.shape
        parts, deltas = {}, []
        for number in "12":
            parts[f"hada_w{number}_a"] = a = self._numbers(name + number, rank, out)
            parts[f"hada_w{number}_b"] = b = self._numbers(name + number, rank, into)
            parts[f"hada_t{number}"] = t = self._numbers(name + number, rank, rank, *area, size=1)
            deltas.append(np.einsum("ijhw,jn,im->mnhw", t, b, a))
        return parts, self._add(weight, deltas[0] * deltas[1])

    def lokr(self, name, weight, rank=2, alpha=1.0):
        out, into, *area = weight.shape
        one = self._numbers(name, 4, 2, size=0.5)
        left = self._numbers(name, out // 4, rank)
        right = self._numbers(name, rank, into // 2, *area)
        two = (left @ right.reshape(rank, -1)).reshape(out // 4, into // 2, *area)
        delta = np.kron(one.reshape(4, 2, *[1] * len(area)), two)
        tensors = {"lokr_w1": one, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": np.float32(alpha)}
        return tensors, self._add(weight, alpha / rank * delta)

    def lokr_whole(self, name, weight):
        out, into, *area = weight.shape
        one, two = self._numbers(name, 4, 2, size=0.5), self._numbers(name, out // 4, into // 2, *area)
        delta = np.kron(one.reshape(4, 2, *[1] * len(area)), two)
        return {"lokr_w1": one, "lokr_w2": two, "alpha": np.float32(7)}, self._add(weight, delta)  # the alpha says nothing

    def lokr_tucker(self, name, weight, rank=2):
        if weight.ndim < 4:
            return self.lokr(name, weight, rank)
        out, into, *area = weight.shape
        a, b = self._numbers(name, 4, rank, size=0.5), self._numbers(name, rank, 2, size=0.5)
        left, right = self._numbers(name, rank, out // 4), self._numbers(name, rank, into // 2)
        core = self._numbers(name, rank, rank, *area, size=1)
        two = np.einsum("ijhw,ip,jr->prhw", core, left, right)
        tensors = {"lokr_w1_a": a, "lokr_w1_b": b, "lokr_w2_a": left, "lokr_w2_b": right, "lokr_t2": core}
        return tensors, self._add(weight, np.kron((a @ b)[..., None, None], two))

    def glora(self, name, weight, rank=3, alpha=1.5):
        out, into, *area = weight.shape
        a1, a2 = self._numbers(name, into, rank), self._numbers(name, rank, into)
        b1, b2 = self._numbers(name, out, rank), self._numbers(name + "b", rank, into, *area)
        turned = np.einsum("oi...,ij,jk->ok...", weight, a1, a2)
        delta = alpha / rank * (turned + (b1 @ b2.reshape(rank, -1)).reshape(weight.shape))
        tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": np.float32(alpha)}
        return tensors, self._add(weight, delta)

    def glora_older(self, name, weight, rank=3):
        tensors, changed = self.glora(name, weight, rank)
        order = {"a1.weight": "a2.weight", "a2.weight": "a1.weight", "b1.weight": "b2.weight", "b2.weight": "b1.weight"}
        return {order.get(key, key): array for key, array in tensors.items()}, changed

    def full(self, name, weight):
        diff = self._numbers(name, *weight.shape)
        return {"diff": diff}, self._add(weight, diff)

    def whole(self, name, weight):
        return {"set_weight": -weight}, lambda strength: weight * np.float32(1 - 2 * strength)

    def ia3(self, name, weight):
        factor = self._numbers(name, weight.shape[0])
        shaped = factor.reshape(-1, *[1] * (weight.ndim - 1))
        return {"weight": factor, "on_input": np.float32(0)}, lambda strength: weight * (1 + np.float32(strength) * shaped)

    def ia3_on_input(self, name, weight):
        factor = self._numbers(name, weight.shape[1])
        shaped = factor.reshape(1, -1, *[1] * (weight.ndim - 2))
        tensors = {"weight": factor.reshape(1, -1), "on_input": np.float32(1)}
        return tensors, lambda strength: weight * (1 + np.float32(strength) * shaped)

    def dora(self, name, weight):
        return self._dora(name, weight, "out", self.lora)

    def dora_on_input(self, name, weight):
        return self._dora(name, weight, "in", self.lora)

    def dora_of_loha(self, name, weight):
        return self._dora(name, weight, "out", self.loha)

    def _dora(self, name, weight, side, inner):
        tensors, changed = inner(name, weight)
        axes = tuple(range(1, weight.ndim)) if side == "out" else (0, *range(2, weight.ndim))
        turned = changed(1).astype(np.float64)
        norm = np.sqrt((turned**2).sum(axes, keepdims=True))
        scale = (norm * (1 + self._numbers(name, *norm.shape))).astype(np.float32)
        result = scale * turned / norm
        return {**tensors, "dora_scale": scale}, lambda strength: weight + strength * (result - weight)

    @staticmethod
    def _rotation(blocks, most):
        skew = (blocks - blocks.swapaxes(-1, -2)).astype(np.float64)
        norm = np.sqrt((skew**2).sum()) + 1e-8
        if 0 < most < norm:
            skew = skew * most / norm
        one = np.eye(blocks.shape[-1])
        return (one + skew) @ np.linalg.inv(one - skew)

    def oft(self, name, weight, side=8):
        out = weight.shape[0]
        blocks, rescale = self._numbers(name, out // side, side, side), 1 + self._numbers(name, out, 1)
        turn = self._rotation(blocks, 0.01 * out)
        rows = rows_of(weight).astype(np.float64).reshape(out // side, side, -1)
        turned = rescale * np.einsum("knm,knc->kmc", turn, rows).reshape(out, -1)
        tensors = {"oft_blocks": blocks, "rescale": rescale.reshape(-1, *[1] * (weight.ndim - 1)), "alpha": np.float32(0.01)}
        return tensors, self._add(weight, turned - rows_of(weight))

    def boft(self, name, weight, side=4, stages=3):
        out = weight.shape[0]
        blocks = self._numbers(name, stages, out // side, side, side)
        turn = self._rotation(blocks, 0)

        def changed(strength):
            rows = rows_of(weight).astype(np.float64)
            for stage in range(stages):
                half = 2**stage * side // 2
                matrix = strength * turn[stage] + (1 - strength) * np.eye(side)
                rows = rows.reshape(-1, 2, half, rows.shape[-1]).swapaxes(1, 2).reshape(out // side, side, -1)
                rows = np.einsum("bij,bjc->bic", matrix, rows)
                rows = rows.reshape(-1, half, 2, rows.shape[-1]).swapaxes(1, 2).reshape(out, -1)
            return rows.reshape(weight.shape)

        return {"oft_blocks": blocks}, changed


KINDS = [name for name in vars(Kinds) if not name.startswith("_")]


def of_kind(kind, layers, stem, strength):
    """The tensors of a file of this kind, and the layers' changed weights under diffusers' names."""
    tensors, changed = {}, {}
    for name, weight in layers.items():
        own, make = getattr(Kinds(), kind)(name, weight)
        tensors |= {f"{stem(name)}.{ending}": np.asarray(array, np.float32) for ending, array in own.items()}
        changed[f"{name}.weight"] = make(strength).astype(np.float32)
    return tensors, changed
