"""The files that make up a model, as `Pipeline` and `convert` take them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcpp_py import _engine
from sdcpp_py.errors import InvalidArgumentError, shown

PathLike = str | os.PathLike[str]
#: Keywords that name files.
FILE_KEYWORDS = ("diffusion_model", "vae", "text_encoders", "llm", "taesd", "clip_vision", "upscaler", "parts")


@dataclass(frozen=True)
class Component:
    """A row of the engine's table of components."""

    name: str
    kind: str  #: components of one kind take each other's place
    title: str  #: for people
    option: str  #: the keyword by which a user gives its file
    flags: tuple[str, ...]  #: on the command line
    help: str


COMPONENTS: tuple[Component, ...] = tuple(Component(**{**row, "flags": tuple(row["flags"])}) for row in _engine.components())
#: Text encoders that share a keyword, by the words of their flags, such as "t5xxl".
ENCODERS_BY_FLAG = {flag.strip("-"): row.name for row in COMPONENTS for flag in row.flags if row.option == "text_encoders"}
_DENOISERS = {"diffusion_model", *(row.name for row in COMPONENTS if row.kind == "diffusion_model")}


_AFTER = ("vae", "taesd", "upscaler", "clip_vision")  # keywords of parts that work on pictures
_PICTURE_PARTS = {*_AFTER, *(row.name for row in COMPONENTS if row.option in _AFTER)}


class ModelParts:
    """Paths and their parts; later files' tensors take the place of earlier ones'."""

    def __init__(self, model: PathLike | None, keywords: Mapping[str, Any], *, otherwise: PathLike | None = None) -> None:
        """``keywords``: values of FILE_KEYWORDS; paths by component or kind of components; "parts" maps components to paths.

        ``otherwise`` is the model if neither a model nor a diffusion model is given. Raises InvalidArgumentError for what is no
        path, for an unknown part, or if there is none.
        """
        given: list[tuple[str, Any]] = []
        for name, paths in keywords.items():
            if name == "parts" and paths is not None:
                if not isinstance(paths, Mapping) or not all(isinstance(part, str) for part in paths):
                    raise InvalidArgumentError.of("parts", f"must map names of components to paths, not {shown(paths)}")
                given += paths.items()
            elif paths is not None:
                kind = "text_encoder" if name == "text_encoders" else name
                several = [paths] if isinstance(paths, (str, os.PathLike)) or not isinstance(paths, Sequence) else paths
                given += [(kind, path) for path in several]
        alone = model is None and not any(part in _DENOISERS for part, _ in given)
        base = otherwise if alone else model
        #: Whether text encoders are given and their model is not.
        self.lacks_model = alone and otherwise is not None and any(part not in _PICTURE_PARTS for part, _ in given)
        if base is not None:
            given.insert(0, ("", base))
        self.files = [_engine.PartFile(_engine.path_bytes(path), part) for part, path in given]
        if not self.files:
            raise InvalidArgumentError("give a model, or its parts")
        #: The file that names the model: the diffusion model's, else the first.
        named = next((file for file in self.files if file.part in _DENOISERS), self.files[0])
        self.path = Path(os.fsdecode(named.path))
