"""Prompts that change from step to step, and prompts made of several, as A1111's web UI writes them.

``[from:to:when]`` replaces a text at a step, ``[to:when]`` adds one, ``[from::when]`` takes one away; ``when`` is a share of the
steps if it has a point, else a step. ``[a|b|c]`` takes turns, step by step. ``first AND second :1.5`` guides by several prompts,
each with its weight. Brackets of another form stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sdcpp_py.errors import InvalidArgumentError

MAX_TEXTS = 256  # different texts of one prompt
_MAX_WORK = 20_000_000  # texts times their parts
_MARK = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\", re.DOTALL)
_WHEN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"^(.*?)(?:\s*:\s*([-+]?(?:\d+\.?\d*|\.\d+)))?\s*$", re.DOTALL)


class Text(NamedTuple):
    """A text of a prompt, and when it counts."""

    text: str
    weight: float
    start: float  #: share of the steps
    end: float


@dataclass
class _Edit:
    """``before`` up to a step, then ``after``."""

    before: list[_Node]
    after: list[_Node]
    when: str

    def step(self, steps: int, earlier: int) -> int:
        """The last step of ``before``; below 1: there is none."""
        share = "." in self.when
        number = (float(self.when) - bool(earlier)) * steps if share else float(self.when) - earlier
        return max(-1, min(steps, int(number)))


@dataclass
class _Turns:
    """Takes turns, step by step."""

    items: list[list[_Node]]


_Node = str | _Edit | _Turns | list["_Node"]


@dataclass
class _Open:
    """A bracket that is not closed yet."""

    bracket: str
    parts: list[list[_Node]] = field(default_factory=lambda: [[]])
    marks: list[str] = field(default_factory=list)  # between the parts: ":" or "|"

    def literal(self, end: str) -> list[_Node]:
        """All of it as text."""
        out: list[_Node] = [self.bracket, self.parts[0]]
        for mark, part in zip(self.marks, self.parts[1:]):
            out += [mark, part]
        return [*out, end]

    def closed(self) -> _Node:
        """What it is with its other half."""
        if self.bracket == "[" and set(self.marks) == {"|"}:
            return _Turns(self.parts)
        if self.bracket == "[" and self.marks in ([":"], [":", ":"]):
            last = self.parts[-1]
            when = _WHEN.fullmatch(last[0]) if len(last) == 1 and isinstance(last[0], str) else None
            if when:
                return _Edit(self.parts[0] if len(self.parts) == 3 else [], self.parts[-2], when[1])
        return self.literal("]" if self.bracket == "[" else ")")


def _parsed(prompt: str) -> list[_Node]:
    open_brackets = [_Open("")]

    def give_up() -> None:  # the innermost bracket has no other half
        lost = open_brackets.pop()
        open_brackets[-1].parts[-1].append(lost.literal(""))

    for match in _MARK.finditer(prompt):
        piece = match[0]
        inner = open_brackets[-1]
        if piece in "[(":
            open_brackets.append(_Open(piece))
        elif piece in ")]":
            other = "(" if piece == ")" else "["
            if piece == "]" and any(one.bracket == "[" for one in open_brackets[-_DEPTH:]):
                while open_brackets[-1].bracket != "[":
                    give_up()
            if open_brackets[-1].bracket == other:
                done = open_brackets.pop().closed()
                open_brackets[-1].parts[-1].append(done)
            else:
                inner.parts[-1].append(piece)
        elif piece in ":|" and inner.bracket == "[":
            inner.marks.append(piece)
            inner.parts.append([])
        else:
            inner.parts[-1].append(piece)
    while len(open_brackets) > 1:
        give_up()
    return open_brackets[0].parts[0]


_DEPTH = 64  # a bracket finds its other half past so many of the other kind


def _walk(nodes: list[_Node]) -> tuple[list[_Edit], bool, int]:
    """All edits, whether there are turns, and the number of nodes."""
    edits: list[_Edit] = []
    turns, count = False, 0
    left: list[_Node] = [nodes]
    while left:
        node = left.pop()
        count += 1
        if isinstance(node, list):
            left.extend(node)
        elif isinstance(node, _Edit):
            edits.append(node)
            left += [node.before, node.after]
        elif isinstance(node, _Turns):
            turns = True
            left.extend(node.items)
    return edits, turns, count


def _at(nodes: list[_Node], step: int, steps: int, earlier: int) -> str:
    """The text at a step, from 1."""
    out: list[str] = []
    left: list[_Node] = [nodes]
    while left:
        node = left.pop()
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, list):
            left.extend(reversed(node))
        elif isinstance(node, _Edit):
            left.append(node.before if step <= node.step(steps, earlier) else node.after)
        else:
            left.append(node.items[(step - 1) % len(node.items)])
    return "".join(out)


def changing(prompt: str, steps: int, earlier: int = 0) -> list[tuple[str, int, int]]:
    """The texts of a prompt of so many steps in order, each with the steps that it counts in: from the first, below the last.

    ``earlier``: the steps of a first pass that these follow, which the prompt counts too: 1.5 is half of a second pass.
    Raises InvalidArgumentError past 256 different texts.
    """
    if "[" not in prompt or "]" not in prompt or not (":" in prompt or "|" in prompt):
        return [(prompt, 0, steps)]
    nodes = _parsed(prompt)
    edits, turns, count = _walk(nodes)
    if not edits and not turns:
        return [(prompt, 0, steps)]
    begins = range(steps) if turns else sorted({0, *(max(0, edit.step(steps, earlier)) for edit in edits)} - {steps})
    if len(begins) * count > _MAX_WORK:
        raise InvalidArgumentError("the prompt changes too often for its length; make it shorter, or take fewer steps")
    out: list[tuple[str, int, int]] = []
    for begin in begins:
        text = _at(nodes, begin + 1, steps, earlier)
        if out and out[-1][0] == text:
            out[-1] = (text, out[-1][1], steps)
            continue
        if out:
            out[-1] = (*out[-1][:2], begin)
        out.append((text, begin, steps))
    if len({text for text, _, _ in out}) > MAX_TEXTS:
        raise InvalidArgumentError(f"the prompt becomes more than {MAX_TEXTS} different texts; take fewer alternatives")
    return out


def several(prompt: str) -> list[tuple[str, float]]:
    """The prompts that AND separates, each with its weight."""
    if not _AND.search(prompt):
        return [(prompt, 1.0)]
    out = []
    for part in _AND.split(prompt):
        found = _WEIGHT.match(part)
        assert found
        out.append((found[1], 1.0 if found[2] is None else float(found[2])))
    return out


def texts_of(prompt: str, steps: int, run: int, *, earlier: int = 0, several_prompts: bool = True) -> list[Text]:
    """The texts of a prompt for a run of ``steps``, of which the sampler does the last ``run``.

    A step that the prompt names counts from the first that is done. ``several_prompts``: AND has a meaning.
    """
    out = []
    for part, weight in several(prompt) if several_prompts else [(prompt, 1.0)]:
        if not weight:
            continue
        for text, begin, end in changing(part, steps, earlier):
            if begin < run:
                out.append(Text(text, weight, begin / run, 1.0 if end >= run else end / run))
    if not out:
        raise InvalidArgumentError("all prompts have a weight of 0; one of them must count")
    return out
