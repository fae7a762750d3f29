"""A plan as a picture: when each segment is uploaded and computed in a steady step, and what the memory holds."""

from __future__ import annotations

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
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
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
    at, top = float(_MARGIN), 190
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


def draw_curve(lines: dict[str, list[tuple[float, float]]]) -> Image.Image:
    """Seconds per step over max_vram (GiB), one line for each name."""
    image = Image.new("RGB", (_WIDTH, 500), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    points = [point for line in lines.values() for point in line]
    most_gib, most_seconds = max(p[0] for p in points), max(p[1] for p in points) * 1.05 or 1.0
    left, top, right, bottom = _MARGIN, 40, _WIDTH - 30, 440

    def place(gib: float, seconds: float) -> tuple[float, float]:
        return left + (right - left) * gib / most_gib, bottom - (bottom - top) * seconds / most_seconds

    for i in range(6):
        across, up = most_gib * i / 5, most_seconds * i / 5
        pen.line((place(across, 0), place(across, most_seconds)), fill=_LINE)
        pen.line((place(0, up), place(most_gib, up)), fill=_LINE)
        pen.text((place(across, 0)[0] - 12, bottom + 6), f"{across:.3g}", fill=_INK, font=font)
        pen.text((10, place(0, up)[1] - 8), f"{up:.3g} s", fill=_INK, font=font)
    pen.text((left, bottom + 28), "max_vram (GiB)", fill=_INK, font=font)
    pen.text((10, 8), "seconds per step", fill=_INK, font=font)
    for number, (name, line) in enumerate(lines.items()):
        colour = (_COMPUTE, *_SLOTS)[number % 5]
        places = [place(*point) for point in line]
        pen.line(places, fill=colour, width=3)
        for x, y in places:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        at = right - 220, top + 8 + 22 * number
        pen.rectangle((at[0], at[1] + 4, at[0] + 12, at[1] + 16), fill=colour)
        pen.text((at[0] + 18, at[1]), name, fill=_INK, font=font)
    return image


def save_curve(lines: dict[str, list[tuple[float, float]]], path: str | os.PathLike[str]) -> None:
    """`draw_curve` into a file."""
    _images.save(draw_curve(lines), path)
