"""`convert`: a model's files into one GGUF file, in other types of weights."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from sdcpp_py import _engine, options
from sdcpp_py._memory_errors import memory_errors_told
from sdcpp_py._model_parts import FILE_KEYWORDS, ModelParts, PathLike
from sdcpp_py._whole_file import require_writable, whole_file
from sdcpp_py.errors import CancelledError, InvalidArgumentError


@memory_errors_told()
def convert(
    model: PathLike | None,
    target: PathLike,
    *,
    diffusion_model: PathLike | None = None,
    vae: PathLike | None = None,
    text_encoders: PathLike | Sequence[PathLike] | None = None,
    llm: PathLike | None = None,
    taesd: PathLike | None = None,
    clip_vision: PathLike | None = None,
    upscaler: PathLike | None = None,
    parts: Mapping[str, PathLike] | None = None,
    wtype: str | None = None,
    tensor_type_rules: str | None = None,
    threads: int | None = None,
    cancel: _engine.Cancel | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the networks of a model into the GGUF file ``target``, which appears when it is complete; returns its path.

    ``wtype`` and ``tensor_type_rules`` are as for `Pipeline`: linear layers become ``wtype`` (None: as they are), first and last
    layers and embeddings nothing coarser than q8_0, convolutions f16, norms and biases f32. Facts that the tensors do not
    show go along as metadata. Memory stays small whatever the model's size. ``progress`` None shows a bar on a terminal.
    ``cancel`` is as for `Pipeline.generate`.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError, UnsupportedModelError, MissingPartError, OSError.
    """
    named = locals()
    files = ModelParts(model, {name: named[name] for name in FILE_KEYWORDS}).files
    path = Path(os.fsdecode(_engine.path_bytes(target)))
    if path.suffix.lower() != ".gguf":
        raise InvalidArgumentError(f"{path.name} does not end in .gguf, the format that is written")
    if not path.parent.is_dir():
        raise InvalidArgumentError(f"there is no folder {path.parent} to write into")
    require_writable(path)
    given = {"wtype": wtype, "tensor_type_rules": tensor_type_rules, "threads": threads}
    chosen = options.checked(options.MODEL, given)
    watched, stopped = options.cancel(cancel), threading.Event()
    hidden = not options.progress(progress)
    with whole_file(path) as temporary, tqdm(unit="B", unit_scale=True, disable=hidden, leave=False) as bar:

        def report(done: int, whole: int) -> None:
            bar.total = whole
            bar.update(done - bar.n)
            if stopped.is_set() or (watched is not None and watched.is_set()):
                raise CancelledError("cancelled")

        _engine.convert(files, temporary, chosen, report, stopped.set)
    return path
