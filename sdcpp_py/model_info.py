"""What is in a model file, and what the machine has to run it on."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sdcpp_py import _engine, gpu_advice, options

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
    return [Device(**device) for device in _engine.devices()["devices"]]


def why_no_gpu() -> str:
    """Why `devices` has no GPU and what to type, in lines; "" if it has one. Raises EngineError, as `devices`."""
    found = _engine.devices()
    counts = {backend["name"]: backend["device_count"] for backend in found["backends"]}
    try:
        libraries = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        libraries = ""
    trouble = found["trouble"].splitlines()
    packaged = not libraries or "/libggml/lib" in libraries
    return gpu_advice.no_gpu(counts, trouble, vulkan_loaded="libggml-vulkan" in libraries, packaged=packaged)


def summarize(path: str | os.PathLike[str], *, part: str = "any") -> ModelSummary:
    """List a tensor file's contents without loading it. Raises ModelNotFoundError, BadFileError.

    ``part`` "diffusion", "vae", "text_encoder", "clip_l", "clip_g", "llm" or "taesd" says what a file of one part is; "any" lets
    its names say it.
    """
    given = _engine.PartFile(_engine.path_bytes(path), options.choice("part", part, list(_engine.PARTS)))
    listing = _engine.listing(given)
    tensors = [TensorEntry(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in listing["tensors"]]
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
    return ModelSummary(Path(path), listing["format"], family, tensors, dict(by_type), dict(networks), missing)


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
