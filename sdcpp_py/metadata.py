"""The parameters that a picture was made with.

Understood is what this package writes, and A1111's web UI, stable-diffusion.cpp, ComfyUI and InvokeAI. `read` gives the
parameters as they stand, and as far as they are options of `Pipeline.generate`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from sdcpp_py import _names, options
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError

KEY = "sdcpp_py"  #: of the JSON text with everything for a replay
_EXIF_IFD, _USER_COMMENT, _MAKER_NOTE = 0x8769, 0x9286, 0x927C
_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_LONGEST = 2**24  # characters
_FILLS = {"fill": "fill", "original": "original", "latent noise": "noise", "latent nothing": "nothing"}
_COMFY_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
#: Arguments of `Pipeline.generate` that are pictures or arrays, which a file cannot repeat.
NOT_KEPT = (
    *("noise", "init_latent", "init_image", "ref_images", "mask_image", "outpaint", "depth_image"),
    *("controls", "ip_adapters"),
    *("conditioning", "negative_conditioning"),
)


@dataclass(frozen=True)
class Parameters:
    """What a picture was made with."""

    tool: str  #: the program: "sdcpp_py", "A1111", "stable-diffusion.cpp", "ComfyUI" or "InvokeAI"
    prompt: str
    negative_prompt: str
    fields: Mapping[str, str]  #: everything else, as it stands
    options: Mapping[str, Any]  #: what of it `Pipeline.generate` takes, by keyword
    unused: Sequence[str]  #: keys of what it does not take
    lacking: Sequence[str] = field(
        default=()
    )  #: keywords of pictures and arrays that it was made from, which are not in the file

    @property
    def keywords(self) -> dict[str, Any]:
        """Arguments of `Pipeline.generate` that make the picture again."""
        return {"prompt": self.prompt, "negative_prompt": self.negative_prompt, **self.options}


def read(picture: str | os.PathLike[str] | Image.Image) -> Parameters:
    """The parameters of a PNG, JPEG or WebP file, or of a PIL image that was opened from one.

    Raises ModelNotFoundError, BadFileError for what is no picture, InvalidArgumentError if it has no parameters that are known.
    """
    if isinstance(picture, Image.Image):
        return _of_texts(_texts(picture), "the picture")
    name = os.fsdecode(picture)
    try:
        with Image.open(picture) as image:
            texts = _texts(image)
    except FileNotFoundError:
        raise ModelNotFoundError(f"no such file: {name}") from None
    except UnidentifiedImageError:
        raise BadFileError(f"{name} is no picture of a known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise BadFileError(f"{name} cannot be read: {problem}") from None
    return _of_texts(texts, os.path.basename(name))


def _texts(image: Image.Image) -> dict[str, str]:
    """The texts of a picture's metadata, by key."""
    found = {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    for key, value in image.info.items():
        if key == "comment" and isinstance(value, bytes):
            found["parameters"] = value.decode("utf-8", "replace")
    exif = image.getexif()
    inner = exif.get_ifd(_EXIF_IFD)
    comment = inner.get(_USER_COMMENT)
    if isinstance(comment, bytes):
        found["parameters"] = _comment(comment)
    note = inner.get(_MAKER_NOTE)
    if isinstance(note, bytes) and note.startswith(KEY.encode() + b"\0"):
        found[KEY] = note[len(KEY) + 1 :].decode("utf-8", "replace")
    for tag in (0x010F, 0x0110):  # ComfyUI's WebP: "workflow:{…}" as the maker, "prompt:{…}" as the model
        value = exif.get(tag)
        if isinstance(value, str) and value.startswith("prompt:"):
            found["prompt"] = value.removeprefix("prompt:")
    return {key: value for key, value in found.items() if len(value) <= _LONGEST}


def _comment(data: bytes) -> str:
    """EXIF's user comment: eight bytes that name its encoding, then the text."""
    kind, rest = data[:8], data[8:]
    if kind.startswith(b"UNICODE"):
        little = len(rest) > 1 and rest[1] == 0 and rest[0] != 0
        return rest.decode("utf-16-le" if little else "utf-16-be", "replace")
    return (rest if kind.startswith(b"ASCII") else data).decode("utf-8", "replace").rstrip("\0")


def _of_texts(texts: Mapping[str, str], name: str) -> Parameters:
    readers = ((KEY, _own), ("prompt", _comfy), ("invokeai_metadata", _invoke), ("parameters", of_text))
    for key, reader in readers:
        if key in texts:
            try:
                found = reader(texts[key])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            if found is not None:
                return found
    raise InvalidArgumentError(f"{name} has no parameters of a known program")


def of_text(text: str) -> Parameters | None:
    """What A1111's web UI writes: the prompt, the negative prompt, and a line of fields. None if it is no such text."""
    lines = text.strip().split("\n")
    fields = {key: _unquoted(value) for key, value in _FIELD.findall(lines[-1])}
    if len(fields) < 3:
        return None
    lines.pop()
    first = next((number for number, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    away = "\n".join(lines[first:]).removeprefix("Negative prompt:").strip()
    ours = "SDCPP" in fields or fields.get("Version", "").startswith("stable-diffusion.cpp")
    tool = "stable-diffusion.cpp" if ours else "sdcpp_py" if fields.get("Version", "").startswith(KEY) else "A1111"
    used, unused = _mapped(fields, own=tool == KEY)
    return Parameters(tool, "\n".join(lines[:first]).strip(), away, fields, used, unused)


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value.strip()


def _mapped(fields: Mapping[str, str], *, own: bool) -> tuple[dict[str, Any], list[str]]:
    """The fields that are options, by keyword, and the keys of the others."""
    used: dict[str, Any] = {}
    rows = {option.written: option for option in options.GENERATE.values() if option.written}
    unused = []
    for key, value in fields.items():
        option = rows.get(key)
        if key == "Size" and (size := _SIZE.fullmatch(value)):
            used |= {"width": int(size[1]), "height": int(size[2])}
        elif key == "Sampler":
            sampler, implied = _names.sampler(value, options.SAMPLERS, options.SCHEDULERS)
            if sampler is not None:
                used["sampler"] = sampler
            if implied:
                used.setdefault("scheduler", implied)
        elif key == "Schedule type":
            found = _names.schedule(value, options.SCHEDULERS)
            if found is not None:
                used["scheduler"] = found
        elif key == "RNG":
            used["rng"] = {"gpu": "cuda", "nv": "cuda", "cuda": "cuda", "cpu": "cpu"}.get(value.lower(), value.lower())
        elif key == "Denoising strength" and "Hires upscaler" in fields:
            used["hires_denoising_strength"] = value
        elif key == "Hires upscaler":
            used |= {"hires": True, "hires_upscaler": _upscaler(value)}
        elif key == "Hires resize" and (size := _SIZE.fullmatch(value)):
            used |= {"hires": True, "hires_width": int(size[1]), "hires_height": int(size[2])}
        elif key == "Masked content" and value.lower() in _FILLS:
            used["mask_fill"] = _FILLS[value.lower()]
        elif key == "Distilled CFG Scale" or key == "Guidance":
            used["guidance"] = value
        elif option is not None:
            used[option.name] = value
        else:
            unused.append(key)
    out = {}
    for name, value in used.items():
        option = options.GENERATE[name]
        number = _number(value) if option.kind in ("integer", "number") else value
        if option.kind == "switch" and value in ("True", "False"):
            number = value == "True"
        try:
            out[name] = option.check(number)
        except InvalidArgumentError:
            unused.append(option.written or name)
    if "rng" not in out and not own and "Seed" in fields:
        out["rng"] = "cuda"  # A1111 leaves it out for a GPU's noise
    return out, unused


def _upscaler(name: str) -> str:
    """A1111's name of a way to enlarge as ours: "Latent (bicubic antialiased)"."""
    folded = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    known = options.GENERATE["hires_upscaler"].choices
    return folded if folded in known else "lanczos" if folded == "none" else "model"


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def _own(text: str) -> Parameters | None:
    """The JSON text of this package."""
    data = json.loads(text)
    used = {}
    unused = []
    for name, value in data["options"].items():
        option = options.GENERATE.get(name)
        try:
            if option is None:
                raise InvalidArgumentError(name)
            used[name] = options.seed_value(value) if name == "seed" else option.check(value)
        except InvalidArgumentError:
            unused.append(str(name))
    lacking = [name for name in data.get("made_from", ()) if name in NOT_KEPT]
    fields = {"Model": str(data.get("model", "")), "Version": str(data.get("version", ""))}
    return Parameters(KEY, str(data["prompt"]), str(data["negative_prompt"]), fields, used, unused, lacking)


def own_text(
    used: Mapping[str, Any], prompt: str, negative_prompt: str, made_from: Sequence[str], facts: Mapping[str, str]
) -> str:
    """The JSON text of this package for a picture that was made with the options ``used``."""
    kept = {name: value for name, value in used.items() if name in options.GENERATE and name not in NOT_KEPT}
    kept["batch_count"] = 1
    data = {"prompt": prompt, "negative_prompt": negative_prompt, "options": kept, "made_from": list(made_from), **facts}
    return json.dumps(data)


def exif_of(texts: Mapping[str, str]) -> Image.Exif:
    """EXIF data with the texts of a picture, for formats that have no others."""
    exif = Image.Exif()
    inner = exif.get_ifd(_EXIF_IFD)
    if text := texts.get("parameters"):
        inner[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be", "surrogatepass")
    if text := texts.get(KEY):
        inner[_MAKER_NOTE] = KEY.encode() + b"\0" + text.encode()
    return exif


def _comfy(text: str) -> Parameters | None:
    """ComfyUI's graph: the first sampler's node, and what leads to it."""
    graph = json.loads(text)
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict) and "class_type" in node}
    found = next((node for node in nodes.values() if node["class_type"] in _COMFY_SAMPLERS), None)
    if found is None:
        return None

    def reached(value: Any, name: str) -> Any:
        """The input `name` of the node that a link leads to, or of the nearest of those behind it."""
        links, seen = [value], set()
        while links:
            link = links.pop(0)
            key = str(link[0]) if isinstance(link, list) and link else ""
            if key in seen or key not in nodes:
                continue
            seen.add(key)
            inputs = nodes[key].get("inputs", {})
            if name in inputs and not isinstance(inputs[name], list):
                return inputs[name]
            links += [inputs[name]] if name in inputs else [one for one in inputs.values() if isinstance(one, list)]
        return None

    def value(name: str) -> Any:
        own = found["inputs"].get(name)
        return reached(own, name) if isinstance(own, list) else own

    inputs = found["inputs"]
    fields: dict[str, str] = {}
    used: dict[str, Any] = {}
    pairs = {
        **{"steps": value("steps"), "cfg_scale": value("cfg"), "seed": value("seed") or value("noise_seed")},
        **{"sampler": value("sampler_name"), "scheduler": value("scheduler"), "strength": value("denoise")},
        **{"width": reached(inputs.get("latent_image"), "width"), "height": reached(inputs.get("latent_image"), "height")},
    }
    for name, one in pairs.items():
        if one is not None:
            fields[name] = str(one)
            used[name] = one
    if used.get("strength") == 1:
        del used["strength"]
    model = reached(inputs.get("model"), "ckpt_name") or reached(inputs.get("model"), "unet_name")
    if isinstance(model, str):
        fields["Model"] = model
    used["rng"] = "cpu"  # ComfyUI draws on the processor
    options_used, unused = _checked(used)
    prompt, away = (reached(inputs.get(side), "text") for side in ("positive", "negative"))
    return Parameters("ComfyUI", str(prompt or ""), str(away or ""), fields, options_used, unused)


def _checked(used: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values of options that may be spelled otherwise, and the keys of those that are not understood."""
    out: dict[str, Any] = {}
    unused: list[str] = []
    for name, value in used.items():
        if name == "sampler":
            value, implied = _names.sampler(value, options.SAMPLERS, options.SCHEDULERS)
            if implied:
                out.setdefault("scheduler", implied)
        elif name == "scheduler":
            value = _names.schedule(value, options.SCHEDULERS)
        try:
            out[name] = options.GENERATE[name].check(_number(value))
        except InvalidArgumentError:
            unused.append(name)
    return out, unused


def _invoke(text: str) -> Parameters | None:
    """InvokeAI's metadata."""
    data = json.loads(text)
    keys = {"width": "width", "height": "height", "seed": "seed", "steps": "steps", "cfg_scale": "cfg_scale"}
    keys |= {"scheduler": "sampler", "strength": "strength", "clip_skip": "clip_skip"}
    used = {ours: data[theirs] for theirs, ours in keys.items() if data.get(theirs) is not None}
    if isinstance(used.get("sampler"), str) and used["sampler"].endswith("_k"):
        used["sampler"] = f"{used['sampler'].removesuffix('_k')} karras"
    if isinstance(used.get("clip_skip"), int):
        used["clip_skip"] += 1  # InvokeAI counts layers that are left out
    used["rng"] = "cpu" if data.get("rand_device") == "cpu" else "cuda"
    options_used, unused = _checked(used)
    mapped = (*keys, "positive_prompt", "negative_prompt", "rand_device")
    fields = {key: json.dumps(value) if isinstance(value, (dict, list)) else str(value) for key, value in data.items()}
    unused += [key for key in fields if key not in mapped]
    return Parameters(
        "InvokeAI", str(data["positive_prompt"]), str(data.get("negative_prompt") or ""), fields, options_used, unused
    )
