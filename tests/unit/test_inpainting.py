"""Inpainting: what is black in the mask stays to the last bit, what is white is made anew, however the mask is prepared."""

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

import sdcpp_py
from sdcpp_py import _inpaint, _soft, cli, errors, metadata

PROMPT = "a red circle left of a green star on a white background"
SMALL = {"steps": 4, "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def pipeline():
    with sdcpp_py.Pipeline() as opened:
        yield opened


@pytest.fixture(scope="module")
def picture(pipeline):
    prompt = "a red circle left of a blue square on a white background"
    return pipeline.generate(prompt, steps=8, seed=3, progress=False).image


@pytest.fixture(scope="module")
def mask():
    drawn = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(drawn).rectangle((70, 40, 115, 90), fill=255)
    return drawn


def changed(result, picture):
    return (np.asarray(result, int) != np.asarray(picture, int)).any(2)


def reach(mask, blur):
    """Pixels that a blurred mask touches."""
    return _inpaint.blurred(np.asarray(mask, np.float32) / 255, blur) >= 0.5 / 255


@pytest.mark.parametrize("fill", ["original", "fill", "noise", "nothing"])
@pytest.mark.parametrize(
    "more", [{}, {"mask_blur": 0}, {"only_masked": True}, {"only_masked": True, "only_masked_padding": 0}, {"soft_mask": True}]
)
def test_what_is_kept_is_the_pictures_own(pipeline, picture, mask, fill, more):
    result = pipeline.generate(PROMPT, init_image=picture, mask_image=mask, mask_fill=fill, strength=1, **more, **SMALL).image
    different = changed(result, picture)
    assert not different[~reach(mask, more.get("mask_blur", 4))].any()
    assert different[45:85, 75:110].mean() > 0.5


def test_only_the_right_shape_is_repainted(pipeline, picture, mask):
    result = pipeline.generate(PROMPT, init_image=picture, mask_image=mask, mask_fill="noise", strength=1, seed=5, steps=20).image
    middle = np.asarray(result, int)[65, 92]
    assert middle[1] > middle[0] + 40 and middle[1] > middle[2] + 40, "green, where blue was"
    assert not changed(result, picture)[:, :50].any(), "the circle"


@pytest.mark.parametrize("more", [{}, {"soft_mask": True}])
def test_a_white_mask_is_image_to_image(pipeline, picture, more):
    white = Image.new("L", picture.size, 255)
    plain = pipeline.generate(PROMPT, init_image=picture, strength=0.6, **SMALL)
    masked = pipeline.generate(PROMPT, init_image=picture, mask_image=white, mask_blur=0, strength=0.6, **more, **SMALL)
    assert np.array_equal(plain.latents[0], masked.latents[0]) and not changed(plain.image, masked.image).any()


def test_latents_out_of_the_mask_are_the_pictures(pipeline, picture, mask):
    result = pipeline.generate(PROMPT, init_image=picture, mask_image=mask, strength=1, sampler="heun", **SMALL)
    latent = pipeline.encode(picture)
    assert np.array_equal(result.latents[0][:, :, :6], latent[:, :, :6])


def test_a_moved_mask_moves_the_change(pipeline, picture, mask):
    further = Image.fromarray(np.roll(np.asarray(mask), 8, 0))
    for one in (mask, further):
        result = pipeline.generate(PROMPT, init_image=picture, mask_image=one, mask_blur=0, strength=1, **SMALL).image
        rows = np.flatnonzero(changed(result, picture).any(1))
        box = one.getbbox()
        assert box[1] <= rows[0] <= box[1] + 8 and box[3] - 8 <= rows[-1] < box[3]


@pytest.mark.parametrize("policy", ["capped", "pipelined"])
def test_streamed_is_resident(picture, mask, policy):
    given = {"init_image": picture, "mask_image": mask, "strength": 1, **SMALL}
    with sdcpp_py.Pipeline(device="simulated:vram=1,link=2") as pipeline:
        resident = pipeline.generate(PROMPT, **given)
    with sdcpp_py.Pipeline(device="simulated:vram=1,link=2", max_vram=0.008, plan_policy=policy) as pipeline:
        streamed = pipeline.generate(PROMPT, **given)
        assert streamed.reports["unet"].uploaded_bytes_per_step > 0
    assert np.array_equal(resident.latents[0], streamed.latents[0])


def soft_step(pipeline, picture, mask, **settings):
    """One step of soft inpainting, and its formula in numpy from the same model's plain estimate."""
    given = {"init_image": picture, "strength": 1, "steps": 1, "seed": 5, "sampler": "euler", "progress": False}
    found = pipeline.generate(PROMPT, mask_image=mask, soft_inpainting=True, **settings, **given).latents[0]
    made = pipeline.generate(PROMPT, **given).latents[0].astype(float)
    kept = pipeline.encode(picture).astype(float)
    sigma = float(sdcpp_py.sampling.sigmas("discrete", 1)[0])
    blurred = _inpaint.blurred(np.asarray(mask, np.float32) / 255, 4.0)
    shares = blurred.reshape(16, 8, 16, 8).mean((1, 3))
    bias, strength = settings.get("soft_schedule_bias", 1), settings.get("soft_preservation", 0.5)
    boost = settings.get("soft_contrast_boost", 4)
    t = shares ** (sigma**bias * strength)
    between = (1 - t) * kept + t * made
    length = [np.linalg.norm(one, axis=0) for one in (kept, made, between)]
    wanted = ((1 - t) * length[0] ** boost + t * length[1] ** boost) ** (1 / boost)
    return found, between * wanted / length[2]


@pytest.mark.parametrize("settings", [{}, {"soft_schedule_bias": 0.3, "soft_preservation": 0.2, "soft_contrast_boost": 2}])
def test_soft_inpainting_follows_its_formula(pipeline, picture, mask, settings):
    found, expected = soft_step(pipeline, picture, mask, **settings)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_soft_inpainting_keeps_what_has_not_changed(pipeline, picture, mask):
    given = {"init_image": picture, "mask_image": mask, "mask_fill": "noise", "strength": 1, "steps": 12, "seed": 5}
    made = pipeline.generate(PROMPT, soft_inpainting=True, mask_blur=8, progress=False, **given)
    different = changed(made.image, picture)
    assert different[50:80, 80:105].mean() > 0.5 and not different[:, :30].any()
    again = pipeline.generate(**made.parameters)
    assert not changed(again.image, made.image).any()
    text = made.image.info["parameters"]
    assert "Soft inpainting enabled: True" in text
    assert metadata.of_text(text).options["soft_inpainting"] is True
    small = pipeline.generate(
        PROMPT, soft_inpainting=True, only_masked=True, soft_mask_influence=0.5, soft_preservation=1, progress=False, **given
    )
    assert not changed(small.image, picture)[:, :20].any() and changed(small.image, picture).any()


def test_soft_inpaintings_share_is_half_at_the_threshold():
    before = np.zeros((4, 20, 20), np.float32)
    after = np.full((4, 20, 20), 0.25, np.float32)  # half of the threshold for each channel: 0.5 in all
    mask = np.ones((20, 20), np.float32)
    assert _soft.seen_share(before, after, mask, {})[10, 10] == pytest.approx(0.5, abs=1e-4)
    assert _soft.seen_share(before, before, mask, {}).max() == 0
    assert _soft.seen_share(before, 100 * after, mask, {}).min() > 0.999
    steep = {"soft_difference_contrast": 8.0, "soft_difference_threshold": 0.25}
    assert _soft.seen_share(before, after, mask, steep)[10, 10] > 0.99
    led = {"soft_mask_influence": 1.0}
    assert _soft.seen_share(before, after, mask, led).min() > 0.999, "the mask repaints here"
    assert _soft.seen_share(before, after, 0 * mask, led).max() < 0.001


def test_soft_inpaintings_options_without_it_are_told(pipeline, picture, mask, caplog):
    pipeline.generate(PROMPT, init_image=picture, mask_image=mask, soft_preservation=0.2, **SMALL)
    assert "soft_preservation has no effect without soft_inpainting" in caplog.text
    with pytest.raises(errors.InvalidArgumentError, match="soft_mask goes without soft_inpainting"):
        pipeline.generate(PROMPT, init_image=picture, mask_image=mask, soft_mask=True, soft_inpainting=True, **SMALL)
    with pytest.raises(errors.InvalidArgumentError, match="soft_contrast_boost"):
        pipeline.generate(PROMPT, init_image=picture, mask_image=mask, soft_inpainting=True, soft_contrast_boost=0, **SMALL)


@pytest.mark.parametrize("policy", ["capped", "pipelined"])
def test_soft_inpainting_streamed_is_resident(picture, mask, policy):
    given = {"init_image": picture, "mask_image": mask, "soft_inpainting": True, **SMALL}
    with sdcpp_py.Pipeline(device="simulated:vram=1,link=2") as pipeline:
        resident = pipeline.generate(PROMPT, **given)
    with sdcpp_py.Pipeline(device="simulated:vram=1,link=2", max_vram=0.008, plan_policy=policy) as pipeline:
        streamed = pipeline.generate(PROMPT, **given)
    assert np.array_equal(resident.latents[0], streamed.latents[0])


def test_masks_in_every_form(pipeline, picture, mask, tmp_path):
    array = np.asarray(mask)
    transparent = picture.convert("RGBA")
    transparent.putalpha(mask)
    mask.save(tmp_path / "mask.png")
    forms = [mask, array, array > 0, mask.convert("RGB"), transparent, tmp_path / "mask.png"]
    results = [pipeline.generate(PROMPT, init_image=picture, mask_image=one, **SMALL).image for one in forms]
    inverse = pipeline.generate(PROMPT, init_image=picture, mask_image=255 - array, mask_invert=True, **SMALL)
    for other in [*results[1:], inverse.image]:
        assert not changed(other, results[0]).any()
    again = pipeline.generate(**inverse.parameters)
    assert not changed(again.image, inverse.image).any() and "Mask blur: 4" in inverse.image.info["parameters"]


def test_several_pictures_with_one_mask(pipeline, picture, mask):
    other = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    both = pipeline.generate([PROMPT, PROMPT], init_image=[picture, other], mask_image=mask, seed=[5, 5], steps=4, progress=False)
    alone = pipeline.generate(PROMPT, init_image=other, mask_image=mask, **SMALL)
    assert not changed(both.images[1], alone.image).any() and not changed(both.images[0], picture)[:, :50].any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mask_image": Image.new("L", (64, 64), 255)}, "64x64, the picture is 128x128"),
        ({"mask_image": Image.new("L", (128, 128), 0)}, "repaints nothing"),
        ({"mask_image": Image.new("L", (128, 128), 255), "mask_invert": True}, "repaints nothing"),
        ({"mask_image": np.full((128, 128), np.nan)}, "uint8"),
        ({"mask_image": "nowhere.png"}, "no such file"),
        ({"mask_image": Image.new("L", (128, 128), 255), "init_image": None}, "needs init_image"),
        ({"mask_image": Image.new("L", (128, 128), 255), "mask_fill": "fil"}, "did you mean fill"),
        ({"mask_image": Image.new("L", (128, 128), 255), "mask_blur": -1}, "mask_blur"),
    ],
)
def test_masks_that_cannot_be_used_are_told(pipeline, picture, given, says):
    with pytest.raises(errors.SdcppError, match=says):
        pipeline.generate(PROMPT, **{"init_image": picture, **given}, **SMALL)
    assert pipeline.generate("a red circle", **SMALL).images


def test_mask_options_without_a_mask_are_told(pipeline, picture, caplog):
    result = pipeline.generate(PROMPT, init_image=picture, mask_blur=3, soft_mask=True, **SMALL)
    assert "mask_blur has no effect" in caplog.text and "soft_mask has no effect" in caplog.text
    assert "mask_blur" not in result.parameters


def test_the_command_line_and_the_facade_inpaint(picture, mask, tmp_path):
    picture.save(tmp_path / "a.png")
    mask.save(tmp_path / "m.png")
    paths = [str(tmp_path / name) for name in ("a.png", "m.png", "out.png")]
    assert cli.main(["generate", PROMPT, "-i", paths[0], "--mask", paths[1], "-o", paths[2], "--steps", "4", "-s", "5"]) == 0
    assert not changed(Image.open(paths[2]), picture)[:, :50].any()
    facade = sdcpp_py.StableDiffusion()
    made = facade.generate_image(PROMPT, init_image=paths[0], mask_image=paths[1], sample_steps=4, seed=5, width=128, height=128)
    assert changed(made[0], picture)[:, :50].any(), "nothing is pasted over, as there"


def test_the_blur_is_a_gaussian():
    image = np.zeros((9, 40), np.float32)
    image[2:5, 10:20] = 1
    radius = int(2.5 * 2 + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 2.0) ** 2)
    weights /= weights.sum()

    def at(y, x):
        total = 0.0
        for i, down in enumerate(weights):
            for j, across in enumerate(weights):
                row, column = y + i - radius, x + j - radius
                row = -row if row < 0 else 2 * 8 - row if row > 8 else row
                column = -column if column < 0 else 2 * 39 - column if column > 39 else column
                total += down * across * image[row, column]
        return total

    found = _inpaint.blurred(image, 2.0)
    for y, x in ((0, 9), (2, 12), (4, 20), (8, 39), (5, 0)):
        assert found[y, x] == pytest.approx(at(y, x), abs=1e-6)
    assert np.array_equal(_inpaint.blurred(image, 0.0), image)


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((10, 10, 50, 30), (100, 100), (10, 0, 50, 40)),  # wider than the picture to make: 20 higher, from 0 to 40
        ((10, 50, 50, 70), (100, 100), (10, 40, 50, 80)),
        ((10, 80, 50, 100), (100, 100), (10, 60, 50, 100)),  # pushed back inside
        ((40, 0, 60, 100), (100, 100), (0, 0, 100, 100)),
        ((0, 0, 100, 20), (100, 60), (0, 0, 100, 60)),  # no room for more
    ],
)
def test_the_box_takes_the_shape_of_what_is_made(box, size, expected):
    assert _inpaint.expanded(box, 64, 64, size) == expected


def test_a_box_is_grown_and_cut():
    mask = np.zeros((50, 60), np.float32)
    mask[10:20, 55:58] = 0.1
    assert _inpaint.grown(mask, 8) == (47, 2, 60, 28)
    assert math.isclose(mask.sum(), 3)


def test_a_picture_is_worked_on_at_its_mask_alone(pipeline):
    """In a large picture only the box changes, made at the model's own size."""
    large = Image.new("RGB", (512, 384), "white")
    mask = np.zeros((384, 512), bool)
    mask[200:260, 300:360] = True
    result = pipeline.generate(
        "a red circle",
        init_image=large,
        mask_image=mask,
        only_masked=True,
        mask_fill="noise",
        strength=1,
        width=128,
        height=128,
        **SMALL,
    )
    assert result.image.size == (512, 384) and result.latents[0].shape == (4, 16, 16)
    rows, columns = (np.flatnonzero(changed(result.image, large).any(axis)) for axis in (1, 0))
    assert rows.min() >= 185 and rows.max() < 275 and columns.min() >= 285 and columns.max() < 375


def test_a_result_is_saved_whole(pipeline, picture, mask):
    file = io.BytesIO()
    pipeline.generate(PROMPT, init_image=picture, mask_image=mask, **SMALL).save(file)
    assert "Masked content: original" in Image.open(file).text["parameters"]
