"""How often the embedded model edits rightly: one of two shapes gets another colour by inpainting, judged by pixels.

usage: python benchmarks/edits.py [--count 100]
An edit is right if the new shape's kind, colour and place are right, the other shape is as before, and kept pixels are identical.
Sweeps of strength show how far pictures go from the first one, in levels of 255.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from adherence import judge
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
import pictures

import sdcpp_py

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def scene_of(rng: random.Random) -> pictures.Scene:
    """Two shapes beside one another on a white background, none of which is white."""
    colours = rng.sample([name for name in pictures.COLOURS if name != "white"], 2)
    shapes = tuple(pictures.Shape(rng.choice(pictures.SHAPES), colour, "") for colour in colours)
    return pictures.Scene(shapes, "left of", "white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    count = parser.parse_args().count
    rng, right, identical, tried, seed = random.Random(12), 0, 0, 0, 0
    sweeps: list[list[float]] = []
    with sdcpp_py.Pipeline() as pipe:
        while tried < count:
            seed += 1
            scene = scene_of(rng)
            before = pipe.generate(pictures.caption(scene), seed=seed).image
            if judge(np.asarray(before), scene):
                continue  # only what is right can be edited rightly
            tried += 1
            left = rng.random() < 0.5
            others = [name for name in pictures.COLOURS if name not in ("white", scene.shapes[0].colour, scene.shapes[1].colour)]
            changed = list(scene.shapes)
            changed[0 if left else 1] = replace(changed[0 if left else 1], colour=rng.choice(others))
            wanted = replace(scene, shapes=tuple(changed))
            mask = Image.new("L", before.size)
            half = before.width // 2
            ImageDraw.Draw(mask).rectangle(
                (0, 0, half - 1, before.height) if left else (half, 0, before.width, before.height), fill=255
            )
            prompt = pictures.caption(wanted)
            after = pipe.generate(prompt, init_image=before, mask_image=mask, strength=1.0, mask_blur=0.0, seed=seed).image
            kept = np.s_[:, half:] if left else np.s_[:, :half]
            same = np.array_equal(np.asarray(after)[kept], np.asarray(before)[kept])
            identical += same
            right += bool(judge(np.asarray(after), wanted) == "" and same)
            if tried % 10 == 0:
                sweep = [pipe.generate(prompt, init_image=before, strength=one, seed=seed).image for one in STRENGTHS]
                sweeps.append([float(np.abs(np.asarray(one, float) - np.asarray(before, float)).mean()) for one in sweep])
    print(f"{right} of {count} edits right, kept pixels identical in {identical}")
    rising = sum(all(a < b for a, b in zip(one, one[1:])) for one in sweeps)
    means = ", ".join(f"{strength}: {mean:.1f}" for strength, mean in zip(STRENGTHS, np.mean(sweeps, 0)))
    print(f"{rising} of {len(sweeps)} sweeps rise with every strength; means {means}")


if __name__ == "__main__":
    main()
