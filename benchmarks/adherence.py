"""How often the embedded model follows the prompt: held-out prompts, judged by classical image analysis.

usage: python benchmarks/adherence.py [--count 300] [--json FILE] [--show FOLDER]
A picture is right when the background, the number of shapes, and each one's kind, colour, place and (if given) size are.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
import pictures

PALETTE = np.array(list(pictures.COLOURS.values()), float)
NAMES = list(pictures.COLOURS)
SMALLEST = 60  # pixels: less is a speck


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected regions of `mask`, as masks, largest first."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(label, 1)
        around = np.stack(
            [
                padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
        )
        spread = np.where(mask, around.max(0), 0)
        if np.array_equal(spread, label):
            break
        label = spread
    sizes = Counter(label[mask].tolist())
    return [label == number for number, size in sizes.most_common() if size >= SMALLEST]


def fitted(mask: np.ndarray) -> np.ndarray:
    """The box around `mask`, stretched to a square."""
    ys, xs = np.nonzero(mask)
    box = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return np.asarray(Image.fromarray(box).resize((64, 64), Image.Resampling.NEAREST))


def kind_of(mask: np.ndarray) -> str:
    """The shape whose drawing, fitted into the same box, overlaps `mask` best."""
    found = fitted(mask)
    return max(pictures.SHAPES, key=lambda kind: overlap(found, template(kind)))


@functools.cache
def template(kind: str) -> np.ndarray:
    scene = pictures.Scene((pictures.Shape(kind, "black", "large"),), "center", "white")
    return fitted(np.asarray(pictures.render(scene, random.Random(0), 256))[:, :, 0] < 128)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def size_of(mask: np.ndarray, kind: str, scale: float) -> str:
    xs = np.nonzero(mask)[1]
    width = (xs.max() - xs.min() + 1) / mask.shape[1] / scale
    full = {"square": 1.7, "star": 1.9}.get(kind, 2.0)  # the box's width in half-sizes
    return min(pictures.SIZES, key=lambda size: abs(pictures.SIZES[size] - width / full))


def judge(picture: np.ndarray, scene: pictures.Scene) -> str:
    """ "" if `picture` [H, W, 3] shows `scene`, else the fault."""
    nearest = ((picture[:, :, None, :].astype(float) - PALETTE) ** 2).sum(-1).argmin(-1)
    edge = np.concatenate([nearest[:3].ravel(), nearest[-3:].ravel(), nearest[:, :3].ravel(), nearest[:, -3:].ravel()])
    background = Counter(edge.tolist()).most_common(1)[0][0]
    if NAMES[background] != scene.background:
        return "background"
    far = ((picture.astype(float) - PALETTE[background]) ** 2).sum(-1) > 50**2
    found = components(far)
    if len(scene.shapes) == 2 and len(found) == 1:  # two large shapes may touch: cut between their places
        first = np.zeros_like(far)
        first[
            (slice(None), slice(0, far.shape[1] // 2)) if scene.place in ("left of", "right of") else slice(0, far.shape[0] // 2)
        ] = True
        found = [mask for mask in (found[0] & first, found[0] & ~first) if mask.sum() >= SMALLEST]
    if len(found) != len(scene.shapes):
        return "count"
    centres = np.array([[np.mean(axis) / picture.shape[0] for axis in np.nonzero(mask)[::-1]] for mask in found])
    if len(scene.shapes) == 1:
        place = min(pictures.POSITIONS, key=lambda name: np.abs(np.array(pictures.POSITIONS[name]) - centres[0]).sum())
        if place != scene.place:
            return "place"
    else:
        wanted = np.array([pictures.PLACES_OF_TWO[k] for k in pictures.RELATIONS[scene.place]])
        if np.abs(wanted - centres).sum() > np.abs(wanted - centres[::-1]).sum():
            found, centres = found[::-1], centres[::-1]
        if np.abs(wanted - centres).max() > 0.15:
            return "place"
    for mask, shape in zip(found, scene.shapes):
        colour = Counter(nearest[mask].tolist()).most_common(1)[0][0]
        if NAMES[colour] != shape.colour:
            return "colour"
        if kind_of(mask) != shape.kind:
            return "shape"
        scale = 1.0 if len(scene.shapes) == 1 else pictures.TWO_SHAPES_SCALE
        if shape.size and size_of(mask, shape.kind, scale) != shape.size:
            return "size"
    return ""


def held_out(count: int, seed: int = 2026) -> list[pictures.Scene]:
    rng = random.Random(seed)
    scenes: list[pictures.Scene] = []
    while len(scenes) < count:
        if pictures.is_held_out(scene := pictures.random_scene(rng)):
            scenes.append(scene)
    return scenes


def main() -> None:
    import sdcpp_py

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=Path, help="write wrong pictures into this folder")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cfg-scale", type=float)
    parser.add_argument("--sampler")
    parser.add_argument("--scheduler")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    wrong: Counter[str] = Counter()
    chosen = {"steps": options.steps, "cfg_scale": options.cfg_scale, "sampler": options.sampler, "scheduler": options.scheduler}
    with sdcpp_py.Pipeline(options.model) as pipeline:
        for number, scene in enumerate(held_out(options.count)):
            image = pipeline.generate(pictures.caption(scene), seed=number, progress=False, **chosen).images[0]
            if problem := judge(np.asarray(image), scene):
                wrong[problem] += 1
                if options.show:
                    options.show.mkdir(exist_ok=True)
                    image.save(options.show / f"{number:03d} {problem} - {pictures.caption(scene)}.png")
    right = options.count - sum(wrong.values())
    print(f"{right} of {options.count} held-out prompts fully right: {right / options.count:.1%}")
    for problem, times in wrong.most_common():
        print(f"  wrong {problem:12} {times}")
    if options.json:
        options.json.write_text(json.dumps({"count": options.count, "right": right, "wrong": dict(wrong)}))


if __name__ == "__main__":
    main()
