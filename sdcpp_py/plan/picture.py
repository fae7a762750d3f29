"""A plan as a picture: when each segment is uploaded and computed in a steady step, and what the memory holds."""

from __future__ import annotations

import math
import os

from PIL import Image, ImageDraw, ImageFont

from sdcpp_py import _images
from sdcpp_py.plan.planner import Plan

_WIDTH, _MARGIN, _LANE = 1200, 90, 46
_INK, _PAPER, _LINE = "#222222", "#ffffff", "#cccccc"
_COMPUTE, _RESIDENT = "#4878a8", "#8fb3d4"
_SLOTS = ("#d9822b", "#e8b15d", "#b85c2b", "#f0cf9b")
_GIB = 2**30


def draw(plan: Plan, *, title: str = "") -> Image.Image:
    """Two lanes, uploads over compute, from the step's start to its end, and a bar of the memory's parts."""
    image = Image.new("RGB", (_WIDTH, 330), _PAPER)
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    step = max(plan.predicted_step_seconds / max(1, plan.passes), 1e-9)
    start = min([0.0, *(piece.upload_seconds[0] for piece in plan.pieces)])
    scale = (_WIDTH - _MARGIN - 20) / (step - start)

    def x(seconds: float) -> float:
        return _MARGIN + (seconds - start) * scale

    pen.text((10, 8), title or f"policy {plan.policy}", fill=_INK, font=font)
    for lane, name in enumerate(("uploads", "compute")):
        top = 40 + lane * (_LANE + 12)
        pen.text((10, top + 14), name, fill=_INK, font=font)
        pen.rectangle((_MARGIN, top, _WIDTH - 20, top + _LANE), outline=_LINE)
        if lane == 0:
            spans = [(piece.upload_seconds, _SLOTS[piece.stage % len(_SLOTS)]) for piece in plan.pieces]
        else:
            spans = [(s.compute_span, _RESIDENT if s.resident else _COMPUTE) for s in plan.segments]
        for span, colour in spans:
            if span[1] > span[0]:
                pen.rectangle((x(span[0]), top + 1, max(x(span[0]) + 1, x(span[1]) - 1), top + _LANE - 1), fill=colour)
    pen.line((x(0), 34, x(0), 150), fill=_INK)
    pen.text((x(0) + 4, 152), "0", fill=_INK, font=font)
    end = f"{step:.3g} s a pass"
    pen.text((_WIDTH - 20 - pen.textlength(end, font=font), 152), end, fill=_INK, font=font)

    parts = [("resident", plan.resident_bytes, _RESIDENT)]
    names = ["ring"] if plan.is_ring else [f"slot {i}" for i in range(len(plan.slots))]
    parts += [(name, size, _SLOTS[i % len(_SLOTS)]) for i, (name, size) in enumerate(zip(names, plan.slots))]
    parts += [("workspace", plan.workspace_bytes, "#7a9a5b"), ("carries", plan.carry_bytes, "#b7c9a0")]
    total = max(1, sum(size for _, size, _ in parts))
    at, top = float(_MARGIN), 195
    pen.text((10, top + 12), "memory", fill=_INK, font=font)
    for _, size, colour in parts:
        wide = size / total * (_WIDTH - _MARGIN - 20)
        pen.rectangle((at, top, at + wide, top + 40), fill=colour)
        at += wide
    at = float(_MARGIN)
    for name, size, colour in parts:
        text = f"{name} {size / _GIB:.2f} GiB"
        pen.rectangle((at, top + 56, at + 12, top + 68), fill=colour)
        pen.text((at + 18, top + 52), text, fill=_INK, font=font)
        at += 40 + pen.textlength(text, font=font)
    ratio = plan.predicted_step_seconds / plan.limit_step_seconds if plan.limit_step_seconds else 1.0
    pen.text(
        (_MARGIN, 171),
        "uploads: colours alternate from stage to stage; compute: pale where all weights stay",
        fill=_INK,
        font=small,
    )
    foot = (
        f"{plan.predicted_step_seconds:.3g} s a step, {ratio:.2f} of the limit; "
        f"{plan.streamed_bytes_per_step / _GIB:.2f} GiB streamed "
        f"a step; {len(plan.segments)} segments; peak {plan.peak_bytes / _GIB:.2f} GiB"
    )
    pen.text((10, 295), foot, fill=_INK, font=font)
    return image


def save(plan: Plan, path: str | os.PathLike[str], *, title: str = "") -> None:
    """`draw` into a file; its suffix says the format."""
    _images.save(draw(plan, title=title), path)


def draw_curve(lines: dict[str, list[tuple[float, float]]], *, title: str = "", knee: float | None = None) -> Image.Image:
    """Seconds per step over max_vram (GiB), one line for each name; ``knee`` is a budget to be marked."""
    image = Image.new("RGB", (_WIDTH, 530), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    points = [point for line in lines.values() for point in line]
    across, up = _ticks(max(p[0] for p in points)), _ticks(max(p[1] for p in points))
    left, top, right, bottom = _MARGIN, 60, _WIDTH - 30, 460

    def place(gib: float, seconds: float) -> tuple[float, float]:
        return left + (right - left) * gib / across[-1], bottom - (bottom - top) * seconds / up[-1]

    for gib in across:
        pen.line((place(gib, 0), place(gib, up[-1])), fill=_LINE)
        text = f"{gib:g}"
        pen.text((place(gib, 0)[0] - pen.textlength(text, font=font) / 2, bottom + 6), text, fill=_INK, font=font)
    for seconds in up:
        pen.line((place(0, seconds), place(across[-1], seconds)), fill=_LINE)
        pen.text((10, place(0, seconds)[1] - 8), f"{seconds:g} s", fill=_INK, font=font)
    pen.text((left, bottom + 28), "max_vram (GiB)", fill=_INK, font=font)
    pen.text((10, 8), title, fill=_INK, font=font)
    pen.text((10, 32), "seconds a step", fill=_INK, font=font)
    if knee is not None:
        at = place(knee, 0)[0]
        pen.line((at, top, at, bottom), fill=_SLOTS[2], width=2)
        pen.text((at + 6, top + 8), f"knee: {knee:.3g} GiB", fill=_SLOTS[2], font=font)
    for number, (name, line) in enumerate(lines.items()):
        colour = (_COMPUTE, *_SLOTS)[number % 5]
        places = [place(*point) for point in line]
        pen.line(places, fill=colour, width=3)
        for x, y in places:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        spot = right - 220, top + 8 + 22 * number
        pen.rectangle((spot[0], spot[1] + 4, spot[0] + 12, spot[1] + 16), fill=colour)
        pen.text((spot[0] + 18, spot[1]), f"policy {name}", fill=_INK, font=font)
    return image


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least ``most``, five to ten of them."""
    step = 10.0 ** math.floor(math.log10(max(most, 1e-12)))
    step = next(step * share for share in (0.1, 0.2, 0.5, 1.0, 2.0) if most / (step * share) <= 9)
    return [float(f"{step * number:.10g}") for number in range(math.ceil(most / step) + 1)]


def save_curve(
    lines: dict[str, list[tuple[float, float]]], path: str | os.PathLike[str], *, title: str = "", knee: float | None = None
) -> None:
    """`draw_curve` into a file."""
    _images.save(draw_curve(lines, title=title, knee=knee), path)
