"""The files that make up a model, as `Pipeline` and `convert` take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sdcpp_py import _engine
from sdcpp_py.errors import InvalidArgumentError

PathLike = str | os.PathLike[str]


class ModelParts:
    """Paths and what each is given as; later ones' tensors take the place of earlier ones'."""

    def __init__(
        self,
        model: PathLike | None,
        diffusion_model: PathLike | None,
        vae: PathLike | None,
        text_encoders: PathLike | Sequence[PathLike] | None,
        llm: PathLike | None,
        taesd: PathLike | None,
    ) -> None:
        """Raises InvalidArgumentError for what is no path, or where there is none."""
        if isinstance(text_encoders, (str, os.PathLike)):
            text_encoders = [text_encoders]
        given: list[tuple[PathLike | None, str]] = [(model, "any"), (diffusion_model, "diffusion")]
        given += [(path, "text_encoder") for path in text_encoders or ()]
        given += [(vae, "vae"), (llm, "llm"), (taesd, "taesd")]
        self.files = [_engine.PartFile(_engine.path_bytes(path), part) for path, part in given if path is not None]
        if not self.files:
            raise InvalidArgumentError("give a model, or its parts")

        def path_of(path: PathLike | None) -> Path | None:
            return None if path is None else Path(os.fsdecode(path))

        #: What the model is called by.
        self.path = path_of(diffusion_model) or Path(os.fsdecode(self.files[0].path))
        #: Where a language model's tokenizer may lie.
        self.tokenizer_path = path_of(llm) or path_of(model)
