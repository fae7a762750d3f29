"""Prompts made from a template: ``{a|b}``, ``{2$$a|b|c}``, ``__name__``.

The package dynamicprompts expands them; it is the extra ``wildcards``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sdcpp_py import options
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError, shown

_MOST = 10_000  # prompts


def expanded(
    template: str,
    count: int | None = 1,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    combinatorial: bool = False,
) -> list[str]:
    """``count`` prompts of a template, drawn at random by ``seed``: the same for the same arguments.

    ``{a|b}`` is one of both, ``{0.3::a|0.7::b}`` with weights, ``{2$$a|b|c}`` two of them, ``__name__`` a line of ``name.txt`` in
    ``folder`` or below it. ``combinatorial`` gives all combinations in order instead, up to ``count`` (None: 10 000). Raises
    InvalidArgumentError for what is no template and without the package, ModelNotFoundError for a missing folder.
    """
    if not isinstance(template, str):
        raise InvalidArgumentError(f"a template must be a str, not {shown(template)}")
    most = _MOST if count is None else options.integer("count", count, 1, _MOST)
    first = options.integer("seed", seed, 0, 2**64 - 1)
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator, RandomPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
    except ImportError:
        raise InvalidArgumentError("templates need the package dynamicprompts: pip install 'sdcpp_py[wildcards]'") from None
    root = None if folder is None else Path(folder)
    if root is not None and not root.is_dir():
        raise ModelNotFoundError(f"the folder of wildcards {root} does not exist")
    manager = WildcardManager(root)
    try:
        if options.switch("combinatorial", combinatorial):
            found: Sequence[Any] = list(islice(CombinatorialPromptGenerator(manager).generate(template, max_prompts=most), most))
        elif count is None:
            raise InvalidArgumentError.of("count", "is needed: how many prompts are to be drawn")
        else:
            found = RandomPromptGenerator(manager, seed=first).generate(template, num_images=most)
    except InvalidArgumentError:
        raise
    except Exception as problem:  # whatever its parser finds
        raise InvalidArgumentError(f"the template cannot be understood: {problem!s:.200}") from None
    return [str(prompt) for prompt in found]
