"""Procedural pictures of coloured shapes with captions: the data of the embedded model.

`scene(rng)` draws a random description, `render(scene, rng)` a picture of it, `caption(scene, rng)` a sentence for it.
`is_held_out(scene)` tells the tenth of the shape-colour-relation combinations that training never sees.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 128
_OVERSAMPLING = 4
_LINE = 0.03  # of an outline, as a share of the picture's side
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "orange": (245, 140, 30),
    "purple": (140, 60, 180),
    "pink": (245, 150, 190),
    "cyan": (60, 200, 220),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
}
SIZES = {"small": 0.12, "": 0.18, "large": 0.24}  # half the size, as a share of the picture's side
TWO_SHAPES_SCALE = 0.9
POSITIONS = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75), "center": (0.5, 0.5)}
RELATIONS = {"left of": (0, 1), "right of": (1, 0), "above": (2, 3), "below": (3, 2)}
PLACES_OF_TWO = ((0.27, 0.5), (0.73, 0.5), (0.5, 0.27), (0.5, 0.73))  # left, right, top, bottom


@dataclass(frozen=True)
class Shape:
    kind: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """One shape at `place` (a key of POSITIONS), or two, the first in relation `place` to the second."""

    shapes: tuple[Shape, ...]
    place: str
    background: str


def random_scene(rng: random.Random) -> Scene:
    """A scene with one shape (3 of 10) or two."""
    background = rng.choice(("white", *COLOURS)) if rng.random() < 0.5 else rng.choice(tuple(COLOURS))
    colours = [c for c in COLOURS if c != background]
    shapes = tuple(
        Shape(rng.choice(SHAPES), rng.choice(colours), rng.choice(tuple(SIZES))) for _ in range(1 if rng.random() < 0.3 else 2)
    )
    place = rng.choice(tuple(POSITIONS)) if len(shapes) == 1 else rng.choice(tuple(RELATIONS))
    return Scene(shapes, place, background)


def is_held_out(scene: Scene) -> bool:
    """True for a fixed tenth of the combinations of shapes, colours and relation; 'A left of B' and 'B right of A' are one."""
    shapes, place = scene.shapes, scene.place
    if place in ("right of", "below"):
        shapes, place = shapes[::-1], {"right of": "left of", "below": "above"}[place]
    key = place + "".join(f"|{s.colour} {s.kind}" for s in shapes)
    return zlib.crc32(key.encode()) % 10 == 0


def _outline(kind: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if kind == "square":
        h = 0.85 * r
        return [(x - h, y - h), (x + h, y - h), (x + h, y + h), (x - h, y + h)]
    if kind == "triangle":
        return [(x, y - r), (x + r, y + 0.75 * r), (x - r, y + 0.75 * r)]
    if kind == "star":
        return [
            (x + q * r * math.sin(k * math.pi / 5), y - q * r * math.cos(k * math.pi / 5))
            for k in range(10)
            for q in [0.45 if k % 2 else 1.0]
        ]
    w = 0.3 * r
    corners = [
        (-w, -r),
        (w, -r),
        (w, -w),
        (r, -w),
        (r, w),
        (w, w),
        (w, r),
        (-w, r),
        (-w, w),
        (-r, w),
        (-r, -w),
        (-w, -w),
    ]
    return [(x + a, y + b) for a, b in corners]


def _draw_outline(
    draw: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float, colour: tuple[int, int, int], line: int
) -> None:
    """A shape's edge, `line` pixels wide, within the shape."""
    if kind in ("circle", "ring"):
        for q in (r, 0.55 * r) if kind == "ring" else (r,):
            draw.ellipse((x - q, y - q, x + q, y + q), outline=colour, width=line)
        return
    corners = _outline(kind, x, y, r - line / 2)
    draw.line([*corners, *corners[:2]], fill=colour, width=line, joint="curve")


def render(scene: Scene, rng: random.Random, side: int = SIDE, outlined: bool = False) -> Image.Image:
    """An RGB picture of `side` x `side` pixels; sizes and places vary a little. `outlined`: shapes are not filled."""
    big = side * _OVERSAMPLING
    picture = Image.new("RGB", (big, big), COLOURS[scene.background])
    draw = ImageDraw.Draw(picture)
    if len(scene.shapes) == 1:
        places, scale, jitter = [POSITIONS[scene.place]], 1.0, 0.02
    else:
        places, scale, jitter = [PLACES_OF_TWO[k] for k in RELATIONS[scene.place]], TWO_SHAPES_SCALE, 0.03
    for shape, (x, y) in zip(scene.shapes, places):
        r = SIZES[shape.size] * scale * rng.uniform(0.92, 1.08) * big
        x, y = (x + rng.uniform(-jitter, jitter)) * big, (y + rng.uniform(-jitter, jitter)) * big
        colour = COLOURS[shape.colour]
        if outlined:
            _draw_outline(draw, shape.kind, x, y, r, colour, round(_LINE * big))
            continue
        if shape.kind in ("circle", "ring"):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
            if shape.kind == "ring":
                q = 0.55 * r
                draw.ellipse((x - q, y - q, x + q, y + q), fill=COLOURS[scene.background])
        else:
            draw.polygon(_outline(shape.kind, x, y, r), fill=colour)
    return picture.reduce(_OVERSAMPLING)


def _noun(shape: Shape) -> str:
    words = " ".join(w for w in (shape.size, shape.colour, shape.kind) if w)
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """A sentence for `scene`: the plain one without `rng`, else one of many wordings."""
    text = _noun(scene.shapes[0])
    article = "an" if scene.background[0] in "aeiou" else "a"
    ground = f" on {article} {scene.background} background"
    if len(scene.shapes) == 2:
        relation = scene.place
        if rng and relation in ("left of", "right of") and rng.random() < 0.3:
            relation = rng.choice(("to the ", "on the ")) + relation
        text += f" {relation} {_noun(scene.shapes[1])}"
    elif scene.place == "center":
        text += "" if rng and rng.random() < 0.5 else " in the center"
    else:
        text += f" at the {scene.place}"
    if rng is None:
        return text + ground
    if scene.background == "white" and rng.random() < 0.3:
        ground = ""
    elif rng.random() < 0.15:
        ground = f", {scene.background} background"
    text += ground
    if rng.random() < 0.1:
        text = " ".join(w for w in text.split(" ") if w not in ("a", "an"))
    if rng.random() < 0.1:
        text = rng.choice(("a picture of ", "a drawing of ", "an image of ", "a photo of ")) + text
    return text
