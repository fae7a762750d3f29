"""Pictures: reading and fitting initial ones, generation parameters in A1111's form, atomic saving, numbering."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from sdcpp_py import _engine, _names, metadata, options
from sdcpp_py._whole_file import require_writable, whole_file
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError, shown

_A1111_ORDER = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Clip skip")
MAX_SIDE = 16384  # pixels
_LONGEST_EXIF = 65_000  # bytes, of the 65 533 that one segment of a JPEG has
logger = logging.getLogger("sdcpp_py")
_MODES = {  # Pillow's modes that each format holds
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "JPEG": ("1", "L", "RGB", "CMYK"),
    "WEBP": ("L", "LA", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
}
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}


Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]


def opened(picture: Picture) -> Image.Image:
    """The picture in RGB, upright as its EXIF data say; what is transparent becomes white.

    Raises InvalidArgumentError for what is no picture, ModelNotFoundError, BadFileError.
    """
    upright = unflattened(picture)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layered = upright.convert("RGBA")
    white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layered).convert("RGB")


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns Pillow's errors about a file into ours, which name it."""
    try:
        yield
    except FileNotFoundError:
        raise ModelNotFoundError(f"no such file: {os.fsdecode(path)}") from None
    except UnidentifiedImageError:
        raise BadFileError(f"{os.fsdecode(path)} is no picture of a known format") from None
    except (OSError, ValueError, Image.DecompressionBombError) as problem:
        raise BadFileError(f"{os.fsdecode(path)} cannot be read: {problem}") from None


def unflattened(picture: Picture) -> Image.Image:
    """The picture in bytes, upright, its transparency kept. Raises as `opened` does."""
    if isinstance(picture, (str, os.PathLike)):
        with file_errors(picture), Image.open(picture) as file:
            return unflattened(file)
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise InvalidArgumentError(f"a picture must be uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        return Image.fromarray(np.ascontiguousarray(picture))
    if not isinstance(picture, Image.Image):
        raise InvalidArgumentError(f"a picture must be a path, a PIL image or an array, not {shown(picture)}")
    try:
        return _in_bytes(ImageOps.exif_transpose(picture))
    except InvalidArgumentError:
        raise
    except (OSError, ValueError, SyntaxError) as problem:  # closed, or cut off
        raise BadFileError(f"the picture cannot be read: {problem}") from None


def _in_bytes(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits as one of 8. Raises InvalidArgumentError for floats, whose range is not known."""
    if picture.mode == "F":
        raise InvalidArgumentError("a picture of floats has no known range; give one of bytes")
    if picture.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(picture, np.int64), 0, 65535) // 257).astype(np.uint8))
    picture.load()
    return picture


def pictures_of(given: Picture | Sequence[Picture] | None) -> list[Image.Image]:
    """The pictures given: none, one or several."""
    if given is None:
        return []
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [opened(picture) for picture in several]


def target_size(size: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int] | None:
    """The size that two sides, or one by the picture's shape, ask for. Raises InvalidArgumentError."""
    if width is None and height is None:
        return None
    wide = None if width is None else options.integer("width", width, 1, MAX_SIDE)
    tall = None if height is None else options.integer("height", height, 1, MAX_SIDE)
    if wide is None:
        assert tall is not None
        wide = max(1, round(size[0] * tall / size[1]))
    if tall is None:
        tall = max(1, round(size[1] * wide / size[0]))
    require_pixels(wide, tall)
    return wide, tall


def require_pixels(width: int, height: int, what: str = "") -> None:
    """Raise InvalidArgumentError for more pixels than a side may have."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InvalidArgumentError(f"a {what}picture of {width} x {height} pixels is not possible; sides go up to {MAX_SIDE}")


def with_alpha_of(larger: Image.Image, picture: Image.Image) -> Image.Image:
    """``larger`` with the transparency of the picture that it was made from, if that has any."""
    if not picture.has_transparency_data:
        return larger
    alpha = picture.convert("RGBA").getchannel("A").resize(larger.size, Image.Resampling.LANCZOS)
    larger.putalpha(alpha)
    return larger


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture's middle in the shape of width and height, scaled to them."""
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def parameters_text(prompt: str, negative_prompt: str, fields: Mapping[str, Any]) -> str:
    """Prompt, negative prompt and `Key: value` pairs as A1111's web UI writes them into PNG files."""
    lines = [prompt]
    if negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")

    def quoted(value: Any) -> str:
        shown = str(value)
        return f'"{shown}"' if re.search(r"[,:\n]", shown) else shown

    lines.append(", ".join(f"{key}: {quoted(value)}" for key, value in fields.items()))
    return "\n".join(lines)


def parameters_of(used: Mapping[str, Any], model: str, more: Mapping[str, str] | None = None) -> str:
    """`parameters_text` of a picture made with the options ``used``, prompts among them, by the model called ``model``.

    ``more`` are further fields; empty ones are left out.
    """
    fields = options.written(used)
    fields["Sampler"] = _names.SAMPLER_TITLES.get(fields["Sampler"], fields["Sampler"])
    if schedule := fields.get("Schedule type"):
        fields["Schedule type"] = _names.SCHEDULE_TITLES.get(schedule, schedule)
    fields["RNG"] = "GPU" if fields["RNG"] == "cuda" else "CPU"  # A1111's words
    fields |= {"Model": file_text(model), "Version": f"sdcpp_py {_engine.version()}"}
    fields |= {key: text for key, text in (more or {}).items() if text}
    first = [key for key in _A1111_ORDER if key in fields]
    last = ["RNG", "Version"]
    keys = [*first, *(key for key in fields if key not in (*first, *last)), *last]
    return parameters_text(used["prompt"], used["negative_prompt"], {key: fields[key] for key in keys})


def file_text(name: str) -> str:
    """A file's name as text, which it need not be."""
    return os.fsencode(name).decode("utf-8", "replace")


def output_paths(pattern: str | os.PathLike[str], count: int) -> list[Path]:
    """Paths of `count` pictures: `%d` (or `%03d`) numbers them from 0; without it, `_1`, `_2` … are put before the ending."""
    name = os.fspath(pattern)
    numbered = re.search(r"%0?\d*d", name)
    if numbered:
        return [Path(name[: numbered.start()] + numbered.group(0) % n + name[numbered.end() :]) for n in range(count)]
    first = Path(name)
    return [first, *(first.with_stem(f"{first.stem}_{n}") for n in range(1, count))]


def check_output(path: Path, kind: str | None = None) -> None:
    """Raise if a picture could not be written to ``path``: unknown ending unless the format is known, missing folder,
    a folder of that name, no permission.
    """
    if kind is None:
        _format_of(path, None)
    if not path.parent.is_dir():
        raise ModelNotFoundError(f"the folder {path.parent} does not exist; create it first")
    require_writable(path)


def save(image: Image.Image, target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
    """Write ``image`` to a path, whole or not at all, or to a file object, with the parameters that it was made with.

    ``format`` is "png", "jpeg", "webp" or "bmp"; None: the path's ending, PNG for a file object. A PNG carries the parameters as
    text, JPEG and WebP in EXIF data, as A1111's web UI writes them. What a format has no room for, such as a JPEG's transparency,
    is flattened onto white. Raises InvalidArgumentError, ModelNotFoundError.
    """
    if not isinstance(image, Image.Image):
        raise InvalidArgumentError(f"a PIL image is saved, not {shown(image)}")
    if isinstance(target, (str, os.PathLike)):
        path = Path(os.fsdecode(_engine.path_bytes(target)))
        kind = _format_of(path, format)
        check_output(path, kind)
        with whole_file(path) as temporary:
            _writable(image, kind).save(temporary, kind, **_metadata(image, kind))
    elif hasattr(target, "write"):
        kind = _format_of(Path("picture.png"), format)
        if isinstance(target, io.TextIOBase):
            raise InvalidArgumentError("a picture is bytes; open the file with mode 'wb', or use io.BytesIO")
        _writable(image, kind).save(target, kind, **_metadata(image, kind))
    else:
        raise InvalidArgumentError(f"a picture is saved to a path or a file object, not {shown(target)}")


def save_all(images: Sequence[Image.Image], target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
    """Write several pictures as `output_paths` numbers them, or the only one to a file object."""
    if isinstance(target, (str, os.PathLike)):
        paths = output_paths(os.fsdecode(_engine.path_bytes(target)), len(images))
        for path in paths:
            check_output(path, _format_of(path, format))
        for image, path in zip(images, paths):
            save(image, path, format)
    elif len(images) == 1:
        save(images[0], target, format)
    else:
        raise InvalidArgumentError(f"{len(images)} pictures need a path; save them one by one to file objects")


def _writable(image: Image.Image, kind: str) -> Image.Image:
    """The picture, or what a format takes in its place."""
    return image if image.mode in _MODES[kind] else opened(image)


def _format_of(path: Path, wanted: str | None) -> str:
    """Pillow's name of the format that is asked for, else of the path's ending."""
    ending = path.suffix if wanted is None else f".{wanted}"
    kind = _FORMATS.get(ending.lower())
    if kind is None:
        what = f"{path}: pictures" if wanted is None else f"unknown format {shown(wanted)}: pictures"
        raise InvalidArgumentError(f"{what} are written as {', '.join(_FORMATS)}")
    return kind


def _metadata(image: Image.Image, kind: str) -> dict[str, Any]:
    """Arguments of Pillow's save that put the picture's parameters into the file."""
    texts = {key: text for key in ("parameters", metadata.KEY) if isinstance(text := image.info.get(key), str)}
    if not texts or kind == "BMP":
        return {}
    if kind == "PNG":
        chunk = PngImagePlugin.PngInfo()
        for key, text in texts.items():
            chunk.add_text(key, text)
        return {"pnginfo": chunk}
    for kept in (texts, {key: text for key, text in texts.items() if key == "parameters"}):
        exif = metadata.exif_of(kept)
        if kind != "JPEG" or len(exif.tobytes()) <= _LONGEST_EXIF:
            return {"exif": exif}
    logger.warning("the picture's parameters are longer than a JPEG may hold, and are left out; a png takes them")
    return {}
