"""The embedded model follows the prompt, by the judgement of benchmarks/adherence.py."""

import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))
import adherence
import pictures


def test_the_judge_finds_every_true_picture_right_and_every_false_one_wrong():
    rng = random.Random(3)
    for _ in range(150):
        scene, other = pictures.random_scene(rng), pictures.random_scene(rng)
        picture = np.asarray(pictures.render(scene, rng))
        assert adherence.judge(picture, scene) == "", pictures.caption(scene)
        if (scene.shapes, scene.background) != (other.shapes, other.background):
            assert adherence.judge(picture, other) or pictures.caption(scene) == pictures.caption(other)


def test_the_readmes_picture(embedded):
    image = embedded.generate("a red circle left of a blue square on a white background", seed=1).images[0]
    shapes = (pictures.Shape("circle", "red", ""), pictures.Shape("square", "blue", ""))
    assert adherence.judge(np.asarray(image), pictures.Scene(shapes, "left of", "white")) == ""


def test_most_held_out_prompts_are_fully_right(embedded):
    scenes = adherence.held_out(24)
    images = [embedded.generate(pictures.caption(scene), seed=n).images[0] for n, scene in enumerate(scenes)]
    right = sum(adherence.judge(np.asarray(image), scene) == "" for image, scene in zip(images, scenes))
    assert right >= 22
