"""The prompts of a model: texts, their LoRAs and learned words, to conditionings."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _engine
from sdcpp_py._conditioning import Conditioning, Part
from sdcpp_py._result import UsedLora
from sdcpp_py.errors import InvalidArgumentError, shown
from sdcpp_py.text import _encoders as encoders
from sdcpp_py.text import embeddings, prompt, schedule
from sdcpp_py.text import loras as networks

logger = logging.getLogger("sdcpp_py")
CACHED = 16  # conditionings that are kept
_USUAL_STEPS = 20  # of a prompt for which none are known
_ARRAYS = ("context", "pooled")


@dataclass
class Text:
    """A prompt of a call."""

    plain: str  #: without tags
    loras: list[networks.Lora]
    written: str  #: for the picture's parameters: with a tag for every LoRA
    given: Conditioning | None = None  #: takes the place of the text
    used: list[UsedLora] = field(default_factory=list)
    shares: list[_engine.Share] = field(default_factory=list)
    later_shares: list[_engine.Share] = field(default_factory=list)  #: in a second pass


class Prompts:
    """Texts to conditionings of one model."""

    def __init__(
        self,
        model: Callable[[], _engine.Model],
        rows: Sequence[Mapping[str, Any]],
        title: str,
        words: Sequence[tuple[str, Any, bool]],
        run: Callable[[], Mapping[str, Any]],
    ) -> None:
        """``model`` gives the open model, ``rows`` describe its text encoders; ``run`` gives what ends a call."""
        self._model, self._call = model, run
        self.encoders = encoders.of_report(rows)
        chunked = {one.name: (one.vocabulary, one.width) for one in self.encoders if one.positions}
        self.words, left_out = embeddings.table_of(words, chunked, title)
        for why in left_out:
            logger.warning("an embedding is left out: %s", why)
        self.composes = bool(self.encoders) and all(one.positions for one in self.encoders)  #: whether AND has a meaning
        self._known: OrderedDict[tuple[Any, ...], _engine.Conditioning] = OrderedDict()
        self._adapted: list[tuple[tuple[str, int, int], float, float]] = []  # the LoRAs in use: file, weights
        self.used_loras: list[UsedLora] = []

    def __len__(self) -> int:
        """How many conditionings are kept."""
        return len(self._known)

    def clear(self) -> None:
        """Free the conditionings that are kept."""
        self._known.clear()

    def read(self, text: str, given: Sequence[networks.Lora], folder: str | None) -> Text:
        """A prompt as the text encoders take it, and its LoRAs: those that the call gives, and its own tags'."""
        plain, own = networks.in_prompt(text, folder)
        return Text(plain, networks.checked([*given, *own]), " ".join([text, *(lora.tag for lora in given)]))

    def adapt(self, loras: Sequence[networks.Lora]) -> list[UsedLora]:
        """Let these LoRAs, and no others, change the model's weights."""
        wanted = [(networks.identity(lora), lora.denoiser, lora.text) for lora in loras]
        if wanted != self._adapted:
            given = [_engine.Adapter(_engine.path_bytes(lora.path), lora.denoiser, lora.text) for lora in loras]
            found = self._model().set_adapters(given)
            self.used_loras = [UsedLora(*lora, **one) for lora, one in zip(loras, found)]
            self._adapted = wanted
        return self.used_loras

    def shares(
        self,
        wanted: Text,
        unwanted: str | Conditioning,
        *,
        steps: int,
        run: int,
        guided: bool,
        clip_skip: int,
        earlier: int = 0,
        picture_share: float | None = None,
    ) -> list[_engine.Share]:
        """The conditionings of a prompt and of the negative one, which is left out if it has no effect.

        The run has ``steps``, of which the last ``run`` are done; ``earlier`` are those of a pass before it.
        ``picture_share``, of models that edit a picture: the weight of what the picture alone changes, beside the prompt's of 1;
        the negative prompt leads away without the picture then.
        """
        positive: list[schedule.Text] = []
        if wanted.given is None:
            positive = schedule.texts_of(wanted.plain, steps, run, earlier=earlier, several_prompts=self.composes)
        composed = len({text.text for text in positive if text.start == 0}) > 1 or any(text.weight != 1 for text in positive)
        parts = wanted.given.parts if wanted.given else ()
        needs_negative = guided or composed or picture_share is not None or any(part.weight != 1 for part in parts)
        negative: list[schedule.Text] = []
        if needs_negative and isinstance(unwanted, str):
            negative = schedule.texts_of(unwanted, steps, run, earlier=earlier, several_prompts=False)
        distinct = list(dict.fromkeys([*(text.text for text in positive), *(text.text for text in negative)]))
        tokens = dict(zip(distinct, encoders.tokenize(self.encoders, distinct, self.words))) if distinct else {}
        out = []
        for texts, is_negative in ((positive, False), (negative, True)):
            for one in texts:
                nothing = is_negative and not one.text
                encoded = self.encoded(tokens[one.text], clip_skip, nothing=nothing)
                out.append(_engine.Share([encoded], is_negative, one.weight, one.start, one.end))
        for given, is_negative in ((wanted.given, False), (unwanted, True)):
            if isinstance(given, Conditioning) and (needs_negative or not is_negative):
                out += [self._given(part, is_negative) for part in given.parts]
        if picture_share is None:
            return out
        away = [share for share in out if share.negative]
        with_picture = [share._replace(negative=False, weight=picture_share) for share in away if picture_share]
        return [one for one in out if not one.negative] + with_picture + [one._replace(without_picture=True) for one in away]

    def _given(self, part: Part, negative: bool) -> _engine.Share:
        encoded = self._model().conditioning(part.arrays)
        return _engine.Share([encoded], negative, part.weight, part.start, part.end)

    def encoded(self, tokens: tuple[prompt.Tokens, ...], clip_skip: int, *, nothing: bool = False) -> _engine.Conditioning:
        """A text's conditioning; ``nothing``: it is an empty negative prompt."""
        changes = tuple((file, weight) for file, _, weight in self._adapted if weight)
        key = (tokens, clip_skip, nothing, changes)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        self._known[key] = self._model().encode_prompt(tokens, clip_skip, nothing, **self._call())
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return self._known[key]

    def states(self, text: str, clip_skip: int) -> NDArray[np.float32]:
        """The text encoders' states of a plain text, [1, tokens, C]."""
        (tokens,) = encoders.tokenize(self.encoders, [text], self.words)
        return self.encoded(tokens, clip_skip).array("context")

    def conditioning(self, text: Text, *, negative: bool, steps: int | None, clip_skip: int) -> Conditioning:
        """A prompt to be kept."""
        count = _USUAL_STEPS if steps is None else steps
        found = schedule.texts_of(text.plain, count, count, several_prompts=self.composes and not negative)
        if steps is None and len(found) > len(schedule.several(text.plain)):
            raise InvalidArgumentError.of("steps", "is needed: the prompt changes from step to step")
        tokens = encoders.tokenize(self.encoders, [one.text for one in found], self.words)
        parts = []
        for one, ids in zip(found, tokens):
            encoded = self.encoded(ids, clip_skip, nothing=negative and not one.text)
            arrays = {name: encoded.array(name) for name in _ARRAYS if encoded.shapes([name])}
            parts.append(Part(arrays, one.weight, one.start, one.end))
        return Conditioning(parts, text.written)

    def chunks(self, texts: Sequence[str], steps: int | None) -> int:
        """The most chunks that one of the texts takes at any step."""
        count = _USUAL_STEPS if steps is None else steps
        every = [one.text for text in texts for one in schedule.texts_of(text, count, count, several_prompts=self.composes)]
        tokens = encoders.tokenize(self.encoders, list(dict.fromkeys(every)), self.words)
        return max((one.chunks for row in tokens for one in row), default=1)


def together_key(text: Text) -> tuple[Any, ...]:
    """What must be equal for pictures of two prompts to be sampled together."""
    loras = tuple((*networks.identity(lora), lora.denoiser, lora.text) for lora in text.loras)
    passes = [[(share[1:], share.conditionings[0].shapes(_ARRAYS)) for share in one] for one in (text.shares, text.later_shares)]
    return loras, repr(passes)


def together(shares: Sequence[Sequence[_engine.Share]]) -> list[_engine.Share]:
    """The shares of several pictures, whose keys are equal, as those of a batch; one picture's own if all have the same."""
    if all(one is shares[0] for one in shares):
        return list(shares[0])
    return [row[0]._replace(conditionings=[share.conditionings[0] for share in row]) for row in zip(*shares)]


def conditionings_of(name: str, given: Any) -> list[Conditioning]:
    """The conditionings of a call: none, one or several."""
    several = [] if given is None else [given] if isinstance(given, Conditioning) else given
    if not isinstance(several, Sequence) or not all(isinstance(one, Conditioning) and one.parts for one in several):
        raise InvalidArgumentError.of(name, f"must be a Conditioning of encode_prompt, or a list of them, not {shown(given)}")
    return list(several)
