"""Stages of well-known networks, to plan for them without a file, and devices to plan for.

`benchmarks/network_stages.py` writes the data from the released models. For models that this package runs, it writes every
tensor's shape (`data/tensor_shapes.json.gz`): stages and workspace are the engine's own. For the others it writes each stage's
parameters and widths (`data/families.json`), from which workspace is estimated.
"""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sdcpp_py import options
from sdcpp_py.plan.planner import Stage

#: Bytes a weight takes, by type: blocks of ggml's formats with their scales.
BYTES_PER_WEIGHT = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "f8_e4m3": 1.0,
    "q8_0": 34 / 32,
    "q6_k": 210 / 256,
    "q5_k": 176 / 256,
    "q4_k": 144 / 256,
    "q5_0": 22 / 32,
    "q4_0": 18 / 32,
    "q3_k": 110 / 256,
    "q2_k": 84 / 256,
}
_PARTS = 8  # a block's weights are several tensors of about the same size


@dataclass(frozen=True)
class Profile:
    """A device to plan for."""

    vram_gib: float
    link_gb_per_s: float
    tflops: float  #: reached in large layers, not the data sheet's


# Compute: from published times of a transformer of 6.15 G parameters (1024x688: 2.05 s a pass on an RTX 3060; 512x512: 0.17 s
# on a 4090); the laptop, the 16 GB card and the H200 in proportion to their data sheets; the CPU as measured with this package
# on 2 cores.
PROFILES = {
    "rtx3060": Profile(12.0, 22.0, 19.0),
    "rtx4060-laptop": Profile(8.0, 12.0, 20.0),
    "rtx4090": Profile(24.0, 25.0, 80.0),
    "egpu-oculink": Profile(16.0, 6.5, 32.0),
    "h200": Profile(141.0, 50.0, 400.0),
    "cpu-nvme": Profile(16.0, 3.0, 0.16),
}


@cache
def _data() -> dict[str, Any]:
    known: dict[str, Any] = json.loads((resources.files("sdcpp_py") / "data" / "families.json").read_text())
    return known


def names() -> tuple[str, ...]:
    """The names of all families."""
    return tuple(_data())


def _known(family: str) -> str:
    """The name of a family, by its name or another one. Raises InvalidArgumentError."""
    for name, row in _data().items():
        if family in row.get("also", ()):
            return name
    return options.choice("family", family, names())


def is_guided(family: str) -> bool:
    """Whether pictures are usually made with guidance, so two microbatches each."""
    return bool(_data()[_known(family)]["guided"])


def size(family: str) -> tuple[int, int]:
    """Width and height of the pictures that a family is made for."""
    width, height = _data()[_known(family)]["size"]
    return int(width), int(height)


def stages(
    family: str, *, wtype: str = "bf16", width: int | None = None, height: int | None = None, tflops: float = 20.0
) -> list[Stage]:
    """The denoiser of ``family`` as stages of one microbatch, for pictures of ``width`` x ``height`` pixels (None: its own size).

    ``wtype`` is the weights' type, ``tflops`` the device's speed in large layers. Raises InvalidArgumentError.
    """
    family = _known(family)
    own_width, own_height = size(family)
    width, height = own_width if width is None else width, own_height if height is None else height
    if family in _shapes():
        return _own_stages(family, wtype, width, height, tflops)
    data = _data()[family]
    item = BYTES_PER_WEIGHT[options.choice("wtype", wtype.lower(), tuple(BYTES_PER_WEIGHT))]
    patch = data["patch"]
    across, down = options.side("width", width, patch), options.side("height", height, patch)
    tokens = (across // patch) * (down // patch) * data.get("frames", 1) + data["text_tokens"]
    speed = options.real("tflops", tflops, 1e-6, 1e9) * 1e12
    out = []
    for row in data["stages"]:
        param_bytes = int(row["params"] * item)
        here = tokens * row["area"]
        flops = 2 * row["params"] * here + 4 * here * here * row["attention"]
        work, carry_in, carry_out = (int(4 * tokens * row[key]) for key in ("workspace", "carry_in", "carry_out"))
        parts = tuple(param_bytes * (i + 1) // _PARTS - param_bytes * i // _PARTS for i in range(_PARTS))
        out.append(Stage(row["name"], param_bytes, work, carry_in, carry_out, 0, flops / speed, parts))
    return out


@cache
def _shapes() -> dict[str, dict[str, list[int]]]:
    packed = (resources.files("sdcpp_py") / "data" / "tensor_shapes.json.gz").read_bytes()
    known: dict[str, dict[str, list[int]]] = json.loads(gzip.decompress(packed))
    return known


def _write_hollow(path: Path, shapes: dict[str, list[int]], dtype: str, item_bytes: int) -> None:
    """A safetensors file of these shapes that takes no room: its data are a hole."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = item_bytes
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + at)


def _own_stages(family: str, wtype: str, width: int, height: int, tflops: float) -> list[Stage]:
    from sdcpp_py.pipeline import Pipeline

    kind = options.choice("wtype", wtype.lower(), tuple(BYTES_PER_WEIGHT))
    dtype, item_bytes = {"f32": ("F32", 4), "f16": ("F16", 2), "f8_e4m3": ("F8_E4M3", 1)}.get(kind, ("BF16", 2))
    in_files = kind in ("f32", "f16", "bf16", "f8_e4m3")
    given = None if in_files else kind.replace("_k", "_K")
    speed = options.real("tflops", tflops, 1e-6, 1e9) * 1e12
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{family}.safetensors"
        _write_hollow(path, _shapes()[family], dtype, item_bytes)
        with Pipeline(
            diffusion_model=path, wtype=given, device="CPU", max_vram=1e5, link_speed=(speed, 1e9), blas=False
        ) as pipeline:
            return list(pipeline.plan(width=width, height=height, cfg_scale=1.0).stages)
