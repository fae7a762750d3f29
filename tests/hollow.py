"""Files with the header of a real one and no data: sparse files of the right length, which take no room on the disk.

Tensors are `{name: (type, shape)}`, shapes outermost first. Types are safetensors' ("F16", "F8_E4M3") or, in GGUF, ggml's
("q4_K").
"""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Tensors = Mapping[str, tuple[str, Sequence[int]]]

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}
GGML = {  # number, values in a block, bytes of a block
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "BF16": (30, 1, 2),
    "q4_0": (2, 32, 18),
    "q8_0": (8, 32, 34),
    "q4_K": (12, 256, 144),
    "q5_K": (13, 256, 176),
    "q6_K": (14, 256, 210),
}
STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage", "U8": "ByteStorage"}


def safetensors(
    path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None, contents: Mapping[str, bytes] | None = None
) -> Path:
    """`contents` are the bytes of tensors that are not zeros, such as marks."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (kind, shape) in tensors.items():
        size = math.prod(shape) * BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + at)
        for name, data in (contents or {}).items():
            out.seek(8 + len(text) + header[name]["data_offsets"][0])
            out.write(data)
    return path


def gguf(path: Path, tensors: Tensors, metadata: Mapping[str, str | Sequence[int]] | None = None) -> Path:
    """Lists in the metadata are arrays of int32."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata or {}))
    for key, value in (metadata or {}).items():
        if isinstance(value, str):
            head += text(key) + struct.pack("<I", 8) + text(value)
        else:
            head += text(key) + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    at = 0
    for name, (kind, shape) in tensors.items():
        number, block, size = GGML[kind]
        assert shape[-1] % block == 0, (name, kind, shape)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, at)
        at += -(-math.prod(shape) // block * size // 32) * 32
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        out.truncate(out.tell() + at)
    return path


def pickled(value: object) -> bytes:
    """The opcodes of a value, to stand within another pickle."""
    return pickle.dumps(value, 2)[2:-1]


def torch_tensor(key: str, kind: str, shape: Sequence[int]) -> bytes:
    """The opcodes of a tensor whose storage is the zip's entry `key`."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    storage = b"(" + pickled("storage") + f"ctorch\n{STORAGES[kind]}\n".encode() + pickled(key) + pickled("cpu")
    storage += pickled(math.prod(shape)) + b"tQ"
    rest = pickled(0) + pickled(tuple(shape)) + pickled(tuple(strides)) + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def torch_state(tensors: Tensors) -> bytes:
    """The opcodes of a state dict."""
    items = (pickled(name) + torch_tensor(str(i), *kind_shape) for i, (name, kind_shape) in enumerate(tensors.items()))
    return b"ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u"


def torch_zip(path: Path, tensors: Tensors, beside: bytes = b"", wrapped: str | None = "state_dict") -> Path:
    """As torch.save writes it; `beside`: opcodes of further keys and values beside the state dict."""
    state = torch_state(tensors)
    if wrapped is not None:
        state = b"}(" + pickled(wrapped) + state + beside + b"u"
    sizes = {f"archive/data/{i}": math.prod(shape) * BYTES[kind] for i, (kind, shape) in enumerate(tensors.values())}
    return zip_file(path, b"\x80\x02" + state + b".", sizes)


def zip_file(path: Path, pickle_bytes: bytes, holes: Mapping[str, int]) -> Path:
    """A zip of a pickle and entries of zeros, as torch.save lays it out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory, count = b"", 0
    with path.open("wb") as out:
        for name, size, data in [
            ("archive/data.pkl", len(pickle_bytes), pickle_bytes),
            *((name, size, b"") for name, size in holes.items()),
        ]:
            at, raw = out.tell(), name.encode()
            wide = struct.pack("<HHQQQ", 1, 24, size, size, at)
            head = struct.pack("<HHHHI", 45, 0, 0, 0, 0) + b"\0\0\0\0"
            out.write(struct.pack("<I", 0x04034B50) + head[:10] + struct.pack("<III", 0, 2**32 - 1, 2**32 - 1))
            out.write(struct.pack("<HH", len(raw), 20) + raw + struct.pack("<HHQQ", 1, 16, size, size))
            out.write(data)
            out.seek(size - len(data), 1)
            directory += struct.pack("<IHHHHHHIII", 0x02014B50, 45, 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1)
            directory += struct.pack("<HHHHHII", len(raw), len(wide), 0, 0, 0, 0, 2**32 - 1) + raw + wide
            count += 1
        at = out.tell()
        out.write(directory)
        end = out.tell()
        out.write(struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(directory), at))
        out.write(struct.pack("<IIQI", 0x07064B50, 0, end, 1))
        out.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0))
    return path
