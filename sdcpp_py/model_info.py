"""What is in a model file, and what the machine has to run it on."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sdcpp_py import _binding, gpu_advice, options
from sdcpp_py._engine import ffi, lib

_NETWORKS = {
    "unet.": "UNet",
    "z_image.": "Z-Image transformer",
    "vae.decoder.": "VAE decoder",
    "vae.encoder.": "VAE encoder",
    "clip_l.": "text encoder (CLIP-L)",
    "clip_g.": "text encoder (CLIP-G)",
    "clip_h.": "text encoder (CLIP-H)",
    "llm.": "text encoder (language model)",
    "taesd.decoder.": "TAESD decoder",
    "taesd.encoder.": "TAESD encoder",
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file."""

    name: str
    canonical: str  #: the engine's name for it, "" where no network uses it
    type: str
    shape: tuple[int, ...]  #: outermost first
    bytes: int


@dataclass(frozen=True)
class ModelSummary:
    """What a model file holds."""

    path: Path
    format: str
    family: str
    tensors: list[TensorEntry]
    bytes_by_type: dict[str, int]
    networks: dict[str, int]  #: parameters of each network found
    missing: list[str]  #: networks that text-to-image needs and the file lacks


@dataclass(frozen=True)
class Device:
    """A device that networks can run on."""

    name: str
    description: str
    is_cpu: bool
    free_bytes: int
    total_bytes: int


def devices() -> list[Device]:
    """The devices of the ggml in use. Raises EngineError if its version is not the one that the engine was built for."""
    found = []
    for index in range(max(1, lib.sdcpp_device_count())):  # the processor is always there; what hides it is told by reading it
        one = ffi.new("sdcpp_device*")
        _binding.call(lib.sdcpp_device_get, index, one)
        name, description = _binding.text(one.name), _binding.text(one.description)
        found.append(Device(name, description, bool(one.is_cpu), one.free_bytes, one.total_bytes))
    return found


def why_no_gpu() -> str:
    """Why `devices` has no GPU and what to type, in lines; "" if it has one. Raises EngineError, as `devices`."""
    one = ffi.new("sdcpp_backend*")
    counts: dict[str, int] = {}
    while True:
        _binding.call(lib.sdcpp_backend_get, len(counts), one)
        if not (name := _binding.text(one.name)):
            break
        counts[name] = one.device_count
    try:
        libraries = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        libraries = ""
    trouble = _binding.text(one.trouble).splitlines()
    packaged = not libraries or "/libggml/lib" in libraries
    return gpu_advice.no_gpu(counts, trouble, vulkan_loaded="libggml-vulkan" in libraries, packaged=packaged)


def _list(path: str | os.PathLike[str], part: str) -> tuple[str, list[TensorEntry]]:
    raw = ffi.new("char[]", _binding.path_bytes(path))
    given = ffi.new("char[]", _binding.PARTS[part])
    file = ffi.new("sdcpp_file*", (raw, given))
    out = ffi.new("sdcpp_listing**")
    _binding.call(lib.sdcpp_listing_open, file, out)
    listing = ffi.gc(out[0], lib.sdcpp_listing_close)
    tensor = ffi.new("sdcpp_tensor*")
    entries = []
    for index in range(lib.sdcpp_listing_count(listing)):
        _binding.call(lib.sdcpp_listing_tensor, listing, index, tensor)
        name, canonical = _binding.text(tensor.name), _binding.text(tensor.canonical)
        shape = tuple(tensor.shape[0 : tensor.dimensions])
        entries.append(TensorEntry(name, canonical, _binding.text(tensor.type), shape, tensor.bytes))
    return _binding.text(lib.sdcpp_listing_format(listing)), entries


def summarize(path: str | os.PathLike[str], *, part: str = "any") -> ModelSummary:
    """List a tensor file's contents without loading it. Raises ModelNotFoundError, BadFileError.

    ``part`` "diffusion", "vae", "text_encoder", "clip_l", "clip_g", "llm" or "taesd" says what a file of one part is; "any" lets
    its names say it.
    """
    kind, tensors = _list(path, options.choice("part", part, list(_binding.PARTS)))
    by_type: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    for tensor in tensors:
        by_type[tensor.type] += tensor.bytes
        for prefix, network in _NETWORKS.items():
            if tensor.canonical.startswith(prefix):
                count = 1
                for side in tensor.shape:
                    count *= side
                networks[network] += count
    names = {tensor.canonical: tensor for tensor in tensors}
    family, needed = _family(names, networks)
    missing = [network for network in needed if network not in networks]
    return ModelSummary(Path(path), kind, family, tensors, dict(by_type), dict(networks), missing)


def _family(names: dict[str, TensorEntry], networks: Counter[str]) -> tuple[str, list[str]]:
    """What the tensors are of, and the networks that text-to-image needs."""
    context = next((t.shape[1] for name, t in names.items() if name.endswith("attn2.to_k.weight")), 0)
    if "Z-Image transformer" in networks:
        return "Z-Image", ["Z-Image transformer", "text encoder (language model)", "VAE decoder"]
    if "unet.label_emb.0.0.weight" in names:
        if context == 1280:
            return "Stable Diffusion XL's refiner", ["UNet", "text encoder (CLIP-G)", "VAE decoder"]
        return "Stable Diffusion XL", ["UNet", "text encoder (CLIP-L)", "text encoder (CLIP-G)", "VAE decoder"]
    if "text encoder (CLIP-H)" in networks or context == 1024:
        return "Stable Diffusion 2.x", ["UNet", "text encoder (CLIP-H)", "VAE decoder"]
    needed = ["UNet", "text encoder (CLIP-L)", "VAE decoder"]
    if "UNet" in networks:
        return "Stable Diffusion 1.x", needed
    return ("a part of a model" if networks else "unknown"), needed
