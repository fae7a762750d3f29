"""Make docs/gallery.md and its pictures from the embedded model: python docs/make_gallery.py"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

import sdcpp_py
from sdcpp_py._grid import grid
from sdcpp_py.control import canny

HERE = Path(__file__).parent
BOTH = "a red circle left of a blue square on a white background"
Pictures = list[tuple[str, Image.Image]]


def image_to_image(pipe: sdcpp_py.Pipeline) -> Pictures:
    """A picture, and what becomes of it."""
    first = pipe.generate("a large red circle on a white background", seed=3).image
    prompt = "a large blue square on a white background"
    return [("before", first)] + [
        (f"strength {strength}", pipe.generate(prompt, init_image=first, strength=strength, seed=3).image)
        for strength in (0.3, 0.6, 0.9)
    ]


def inpainting(pipe: sdcpp_py.Pipeline) -> Pictures:
    """One of two shapes is repainted."""
    before = pipe.generate(BOTH, seed=4).image
    mask = Image.new("L", before.size)
    ImageDraw.Draw(mask).rectangle((0, 0, before.width // 2 - 8, before.height), fill=255)
    prompt = "a green circle left of a blue square on a white background"
    after = pipe.generate(prompt, init_image=before, mask_image=mask, strength=1.0, seed=5).image
    return [("before", before), ("mask", mask.convert("RGB")), ("after", after)]


def outpainting(pipe: sdcpp_py.Pipeline) -> Pictures:
    """The picture grows."""
    small = pipe.generate("a large red circle on a white background", seed=3).image
    return [
        ("before", small),
        ("64 pixels to the right", pipe.generate(BOTH, init_image=small, outpaint=(0, 0, 64, 0), seed=1).image),
    ]


def prompts(pipe: sdcpp_py.Pipeline) -> Pictures:
    """Prompts that change, and several at once."""
    written = {
        "[circle:square:0.3]": "a large [red circle:blue square:0.3] on a white background",
        "[red|green]": "a large [red|green] star on a white background",
        "AND": "a large red circle on a white background AND a small blue square on a white background :0.7",
    }
    return [(name, pipe.generate(prompt, seed=2).image) for name, prompt in written.items()]


def guidance(pipe: sdcpp_py.Pipeline) -> Pictures:
    """Ways to guide, at a scale of 12."""
    ways: dict[str, dict[str, float]] = {"plain": {}, "rescaled": {"guidance_rescale": 0.7}}
    ways |= {"projected": {"apg_eta": 0.0, "apg_norm_threshold": 15.0}, "thresholded": {"mimic_scale": 4.0}}
    prompt = "a small orange ring on a cyan background"
    return [(name, pipe.generate(prompt, cfg_scale=12.0, seed=6, **more).image) for name, more in ways.items()]  # type: ignore[arg-type]


def hires(pipe: sdcpp_py.Pipeline) -> Pictures:
    """A second pass at a larger size."""
    result = pipe.generate(BOTH, hires=True, hires_scale=1.5, hires_denoising_strength=0.5, seed=1)
    return [("without", pipe.generate(BOTH, seed=1).image), ("hires fix, 1.5 times", result.image)]


def previews(pipe: sdcpp_py.Pipeline) -> Pictures:
    """The run after every fifth step."""
    seen: Pictures = []

    def keep(step: sdcpp_py.Step) -> None:
        seen.append((f"step {step.step}", step.preview))

    pipe.generate("a large purple cross on a white background", seed=8, preview="vae", preview_interval=5, preview_callback=keep)
    return seen


def caches(pipe: sdcpp_py.Pipeline) -> Pictures:
    """Without and with step caches."""
    prompt = "a large yellow star on a black background"
    modes = ("none", "easycache", "taylorseer")
    return [(mode, pipe.generate(prompt, steps=30, sampler="euler", seed=9, cache_mode=mode).image) for mode in modes]


def loras(pipe: sdcpp_py.Pipeline) -> Pictures:
    """Shapes become outlines by the example's LoRA."""
    file, prompt = HERE.parent / "examples" / "outlines.safetensors", "a large blue star on a white background"
    return [(f"weight {weight:g}", pipe.generate(prompt, seed=5, loras=[(file, weight)]).image) for weight in (0.0, 0.5, 1.0)]


def edges(pipe: sdcpp_py.Pipeline) -> Pictures:
    """What a ControlNet for edges sees."""
    picture = pipe.generate(BOTH, seed=4).image
    return [("picture", picture), ("canny", canny(picture))]


SECTIONS: list[tuple[str, str, Callable[[sdcpp_py.Pipeline], Pictures]]] = [
    ("Image to image", "image_to_image.py", image_to_image),
    ("Inpainting", "inpainting.py", inpainting),
    ("Outpainting", "outpainting.py", outpainting),
    ("Prompts that change, and several at once", "changing_prompt.py", prompts),
    ("Guidance", "guidance.py", guidance),
    ("Hires fix", "hires_fix.py", hires),
    ("Previews", "previews.py", previews),
    ("Step caches", "step_cache.py", caches),
    ("LoRA", "lora.py", loras),
    ("Edges", "", edges),
]


def main() -> None:
    """Write the page and the pictures."""
    folder = HERE / "gallery"
    folder.mkdir(exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "What the embedded model makes of each task. `python docs/make_gallery.py` makes this page and its pictures.",
    ]
    with sdcpp_py.Pipeline() as pipe:
        for title, example, make in SECTIONS:
            made = make(pipe)
            name = f"{make.__name__}.png"
            grid([picture for _, picture in made], len(made), [label for label, _ in made]).save(folder / name, optimize=True)
            lines += ["", f"## {title}", "", f"![{title}](gallery/{name})"]
            lines += ["", f"[examples/{example}](../examples/{example})"] if example else []
    (HERE / "gallery.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
