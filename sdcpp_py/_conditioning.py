"""Prompts as the diffusion model takes them, to be kept, saved and used again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _engine
from sdcpp_py._whole_file import require_writable, whole_file
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError

_KEY = "sdcpp_py.conditioning"
_MAX_PARTS = 4096
PathLike = str | os.PathLike[str]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """A text's states, and when they count."""

    arrays: Mapping[str, Floats]  #: "context" [1, tokens, C] and what else the model takes, such as "pooled" [1, P]
    weight: float = 1.0
    start: float = 0.0  #: share of the steps
    end: float = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Conditioning:
    """A prompt as a diffusion model takes it: `Pipeline.encode_prompt` makes it, `Pipeline.generate` takes it.

    A prompt that changes from step to step, or is made of several, has several parts.
    """

    parts: Sequence[Part]
    prompt: str = ""  #: the text, for pictures' parameters

    def __repr__(self) -> str:
        """Tell the prompt and the shapes."""
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.parts[0].arrays.items())
        more = f", {len(self.parts)} parts" if len(self.parts) > 1 else ""
        return f"<Conditioning {self.prompt[:40]!r}: {shapes}{more}>"

    def save(self, path: PathLike) -> None:
        """Write it to a safetensors file, whole or not at all. Raises InvalidArgumentError, ModelNotFoundError."""
        target = Path(os.fsdecode(_engine.path_bytes(path)))
        if target.suffix != ".safetensors":
            raise InvalidArgumentError(f"{target}: conditionings are written as .safetensors")
        if not target.parent.is_dir():
            raise ModelNotFoundError(f"the folder {target.parent} does not exist; create it first")
        require_writable(target)
        header: dict[str, object] = {}
        data: list[bytes] = []
        place = 0
        for number, part in enumerate(self.parts):
            for name, array in part.arrays.items():
                raw = np.ascontiguousarray(array, "<f4").tobytes()
                span = [place, place + len(raw)]
                header[f"{number}.{name}"] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}
                data.append(raw)
                place += len(raw)
        rows = [{"weight": part.weight, "start": part.start, "end": part.end} for part in self.parts]
        header["__metadata__"] = {_KEY: json.dumps(rows), "prompt": self.prompt}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with whole_file(target) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.writelines(data)

    @staticmethod
    def load(path: PathLike) -> Conditioning:
        """Read what `save` wrote. Raises BadFileError, ModelNotFoundError."""
        source = Path(os.fsdecode(_engine.path_bytes(path)))
        file = _engine.PartFile(_engine.path_bytes(path), "")
        rows, prompt = _rows_of(source)
        names = [row["name"] for row in _engine.listing(file)["tensors"]]
        arrays: list[dict[str, Floats]] = [{} for _ in rows]
        for key in names:
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(rows):
                raise BadFileError(f"{source.name} is no conditioning: it has a tensor {key!r:.60}")
            arrays[int(number)][name] = _engine.tensor(file, key)
        parts = [Part(own, **row) for own, row in zip(arrays, rows)]
        if not all(part.arrays for part in parts):
            raise BadFileError(f"{source.name} is no conditioning: some of its parts have no tensors")
        return Conditioning(parts, prompt)


def _rows_of(path: Path) -> tuple[list[dict[str, float]], str]:
    """The parts' weights and times in a file's metadata, and its prompt."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 2**24:
                raise ValueError
            metadata = json.loads(file.read(length))["__metadata__"]
        rows = [{key: float(row[key]) for key in ("weight", "start", "end")} for row in json.loads(metadata[_KEY])]
        if not 0 < len(rows) <= _MAX_PARTS or not all(math.isfinite(value) for row in rows for value in row.values()):
            raise ValueError
        return rows, str(metadata.get("prompt", ""))
    except FileNotFoundError:
        raise ModelNotFoundError(f"no such file: {path}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadFileError(f"{path.name} is no conditioning that Conditioning.save has written") from None
