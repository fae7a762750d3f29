"""What a model's text encoders take: a prompt as tokens for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdcpp_py import prompt, qwen_tokenizer
from sdcpp_py._engine import TextEncoder
from sdcpp_py.errors import InvalidArgumentError

MAX_TOKENS = 4096  # of a prompt for a language model
_TEMPLATES = {"z-image": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"}  # the models' own chat templates


def tokenize(
    encoders: Sequence[TextEncoder], texts: Sequence[str], family: str, model: Path | None
) -> list[tuple[prompt.Tokens, ...]]:
    """For each text its tokens for each encoder; all texts get as many chunks as the longest.

    For CLIP, texts are prompts with weights. For a language model they are plain text, put into the family's chat template;
    ``model`` is the file or folder whose tokenizer is taken. Raises InvalidArgumentError.
    """
    columns = []
    for encoder in encoders:
        if encoder.tokenizer == "clip":
            chunks = max(prompt.tokenize(text, encoder.positions).chunks for text in texts)
            columns.append([prompt.tokenize(text, encoder.positions, chunks, encoder.padding) for text in texts])
            continue
        tokenizer = qwen_tokenizer.for_model(model)
        template = _TEMPLATES.get(family, "{}")
        column = []
        for text in texts:
            prompt.check(text)
            ids = tokenizer.encode(template.replace("{}", text), add_special_tokens=False).ids
            if len(ids) > MAX_TOKENS:
                raise InvalidArgumentError(f"the prompt has {len(ids)} tokens; up to {MAX_TOKENS} are possible")
            column.append(prompt.Tokens(tuple(ids), (), 1))
        columns.append(column)
    return [tuple(column[number] for column in columns) for number in range(len(texts))]
