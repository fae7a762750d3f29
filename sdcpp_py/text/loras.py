"""The LoRAs of a call: as a keyword gives them, and as tags in prompts, which A1111 and stable-diffusion.cpp write."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError, shown

_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>]{1,200})>")
_MAX = 100  # at a time
_ENDINGS = (".safetensors", ".ckpt", ".pt", ".gguf", ".pth", ".bin")
_PARTS = {"unet": "denoiser", "denoiser": "denoiser", "te": "text", "text": "text"}
_LONGEST_HEADER = 100 * 2**20

PathLike = str | os.PathLike[str]


class Lora(NamedTuple):
    """A file, and the weights of its changes in the diffusion model and in the text encoders."""

    path: Path
    denoiser: float
    text: float

    @property
    def name(self) -> str:
        """The name by which prompts call it."""
        return self.path.stem

    @property
    def weight(self) -> float | dict[str, float]:
        """The weight as `Pipeline.generate` takes it."""
        return self.denoiser if self.denoiser == self.text else {"unet": self.denoiser, "te": self.text}

    @property
    def tag(self) -> str:
        """The tag that stands for it in a prompt."""
        weights = f"{self.text:g}" if self.denoiser == self.text else f"{self.text:g}:{self.denoiser:g}"
        return f"<lora:{self.name}:{weights}>"


def of_keyword(given: Any) -> list[Lora]:
    """The LoRAs of the keyword ``loras``: paths, (path, weight), or (path, {"unet": weight, "te": weight}).

    Raises InvalidArgumentError, ModelNotFoundError.
    """
    if given is None:
        return []
    if isinstance(given, (str, os.PathLike)):
        raise InvalidArgumentError.of("loras", f"must be a list, such as [({shown(os.fspath(given))}, 0.8)]")
    if not isinstance(given, Sequence):
        raise InvalidArgumentError.of("loras", f"must be a list of (path, weight), not {shown(given)}")
    found = [_of_entry(entry) for entry in given]
    return checked(found)


def checked(loras: list[Lora]) -> list[Lora]:
    """``loras``, if there are not too many. Raises InvalidArgumentError."""
    if len(loras) > _MAX:
        raise InvalidArgumentError(f"{len(loras)} LoRAs are too many; {_MAX} are possible at a time")
    return loras


def _of_entry(entry: Any) -> Lora:
    path, weight = (entry, 1.0) if isinstance(entry, (str, os.PathLike)) else _pair(entry)
    try:
        file = Path(os.fsdecode(path))
    except (TypeError, ValueError):
        raise InvalidArgumentError.of("loras", f"has {shown(path)} instead of a path") from None
    if not file.exists():
        raise ModelNotFoundError(f"no such file: {file}")
    if not isinstance(weight, Mapping):
        both = _number(weight, file.name)
        return Lora(file, both, both)
    unknown = [key for key in weight if key not in _PARTS]
    if unknown or not weight:
        raise InvalidArgumentError.of("loras", f"has weights for {shown(unknown)}; parts are 'unet' and 'te'")
    parts = {_PARTS[key]: _number(value, file.name) for key, value in weight.items()}
    return Lora(file, parts.get("denoiser", 0.0), parts.get("text", 0.0))


def _pair(entry: Any) -> tuple[Any, Any]:
    if isinstance(entry, Lora):
        return entry.path, entry.weight
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise InvalidArgumentError.of("loras", f"has {shown(entry)}; an entry is a path or (path, weight)")
    return entry[0], entry[1]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e6:
        raise InvalidArgumentError.of("loras", f"has the weight {shown(value)} for {name}; it must be a finite number")
    return float(value)


def in_prompt(prompt: str, folder: PathLike | None) -> tuple[str, list[Lora]]:
    """A prompt without its tags, and the LoRAs that they name in ``folder``.

    ``<lora:name>``, ``<lora:name:weight>``, ``<lora:name:te:unet>`` or with named weights, ``te=`` and ``unet=``. A name is a
    path below the folder with or without its ending, or the name of a file in any folder below, or what its trainer called it.
    Raises InvalidArgumentError, ModelNotFoundError.
    """
    tags = list(_TAG.finditer(prompt))
    if not tags:
        return prompt, []
    if len(tags) > _MAX:
        raise InvalidArgumentError(f"the prompt has {len(tags)} LoRA tags; {_MAX} are possible")
    if folder is None:
        raise InvalidArgumentError.of(
            "lora_model_dir", "is needed", before=f"{tags[0][0]!r:.60} in the prompt names a file in a folder: "
        )
    found = [_of_tag(tag, Path(folder)) for tag in tags]
    return _TAG.sub("", prompt), found


def _of_tag(tag: re.Match[str], folder: Path) -> Lora:
    if tag[1] == "hypernet":
        raise InvalidArgumentError(f"{tag[0]!r:.60} in the prompt: hypernetworks are not supported; leave it out")
    name, *rest = tag[2].split(":")
    weights = {"te": 1.0}
    for place, text in enumerate(rest):
        key, equals, value = text.partition("=")
        if not equals:
            key, value = ("te", "unet", "dyn")[min(place, 2)], text
        key = key.strip()
        if key not in ("te", "unet"):
            raise InvalidArgumentError(f"{tag[0]!r:.60} in the prompt: {key!r:.30} is not supported; weights are te and unet")
        try:
            weights[key] = float(value)
        except ValueError:
            raise InvalidArgumentError(f"{tag[0]!r:.60} in the prompt: {value!r:.30} is no number") from None
        if not math.isfinite(weights[key]) or abs(weights[key]) > 1e6:
            raise InvalidArgumentError(f"{tag[0]!r:.60} in the prompt: the weight must be a finite number")
    return Lora(_file_of(name.strip(), folder, tag[0]), weights.get("unet", weights["te"]), weights["te"])


def _file_of(name: str, folder: Path, tag: str) -> Path:
    if not folder.is_dir():
        raise ModelNotFoundError(f"the folder of LoRAs {folder} does not exist")
    if name.startswith("|"):
        raise InvalidArgumentError(f"{tag!r:.60} in the prompt is for one of several diffusion models, which is not supported")
    if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InvalidArgumentError(f"{tag!r:.60} in the prompt names no file below {folder}")
    for ending in ("", *_ENDINGS):
        path = folder / f"{name}{ending}"
        if path.suffix in _ENDINGS and path.is_file():
            return path
    files = sorted(path for path in folder.rglob("*") if path.suffix in _ENDINGS and path.is_file())
    for path in files:
        if path.stem == name or path.name == name:
            return path
    for path in files:
        if metadata(path).get("ss_output_name") == name:
            return path
    near = difflib.get_close_matches(name, [path.stem for path in files], 3)
    told = f"; there are {', '.join(near)}" if near else "" if files else "; it holds no LoRA"
    raise ModelNotFoundError(f"{tag!r:.60} in the prompt: no file of that name in {folder}{told}")


def _header(path: Path) -> bytes:
    """The header of a safetensors file; b"" if it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return file.read(length) if path.suffix == ".safetensors" and length <= _LONGEST_HEADER else b""
    except OSError as problem:
        raise BadFileError(f"{path} cannot be read: {problem.strerror or problem}") from None


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none."""
    try:
        found = json.loads(_header(path) or b"{}").get("__metadata__", {})
    except (ValueError, AttributeError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def identity(lora: Lora) -> tuple[str, int, int]:
    """What changes if the file does. Raises ModelNotFoundError."""
    try:
        state = lora.path.stat()
    except OSError:
        raise ModelNotFoundError(f"no such file: {lora.path}") from None
    return os.fsdecode(lora.path), state.st_mtime_ns, state.st_size


def short_hash(lora: Lora) -> str:
    """The first 12 digits of the hash by which sites find a LoRA."""
    return _short_hash(*identity(lora))


@functools.lru_cache(maxsize=256)
def _short_hash(name: str, changed: int, size: int) -> str:
    path = Path(name)
    known = metadata(path).get("sshs_model_hash", "")
    if re.fullmatch(r"[0-9a-fA-F]{12,64}", known):
        return known[:12].lower()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if header := _header(path):
            file.seek(8 + len(header))
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()[:12]


def hashes_text(loras: Sequence[Lora]) -> str:
    """The names and hashes as A1111 writes them into pictures; "" without LoRAs."""
    return ", ".join(dict.fromkeys(f"{lora.name}: {short_hash(lora)}" for lora in loras))
