"""ControlNets and T2I-Adapters on tiny models."""

import zlib

import control_files as files
import numpy as np
import pytest
import tiny
from adapters import unet_inputs
from budgets import SIMULATED, least_gib
from PIL import Image

import sdcpp_py
from sdcpp_py import cli, control, errors
from sdcpp_py.control import Control

SMALL = {"width": 64, "height": 64, "steps": 3, "seed": 1, "progress": False}
SPEEDS = (2e10, 2e9)
OPENCV = (
    (100, 200, 9739, 1642224954),
    (300, 700, 8349, 2465404659),
    (50, 900, 8871, 3656550675),
)  # thresholds, and what cv2.Canny found


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Two ControlNets for the tiny model, and the first under other names."""
    folder = tmp_path_factory.mktemp("controls")
    one, two = files.control_net(), files.control_net(seed="other")
    original = files.cldm(one)
    files.write(folder / "one.safetensors", one)
    files.write(folder / "two.safetensors", two)
    files.write(folder / "cldm.safetensors", original)
    files.write(folder / "prefixed.safetensors", {f"control_model.{name}": array for name, array in original.items()})
    return folder


def made(pipeline, controls=None, **more):
    return pipeline.generate("a cat", **{**SMALL, **more}, controls=controls).latents[0]


def test_a_control_net_changes_the_picture_and_leaves_no_trace(folder, nets):
    given = [(nets / "one.safetensors", files.hint(), 0.8)]
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = made(pipeline)
        led = made(pipeline, given)
        assert np.abs(led - plain).max() > 0.01
        np.testing.assert_array_equal(made(pipeline), plain)
        np.testing.assert_array_equal(made(pipeline, given), led)
        np.testing.assert_array_equal(made(pipeline, [(nets / "one.safetensors", files.hint(), 0)]), plain)
        np.testing.assert_array_equal(made(pipeline, [Control(nets / "one.safetensors", files.hint(), 0.8, 0.5, 0.5)]), plain)


@pytest.mark.parametrize("name", ["cldm", "prefixed"])
def test_names_of_the_original_files_are_diffusers(folder, nets, name):
    with sdcpp_py.Pipeline(folder) as pipeline:
        led = made(pipeline, [(nets / "one.safetensors", files.hint())])
        np.testing.assert_array_equal(made(pipeline, [(nets / f"{name}.safetensors", files.hint())]), led)


def test_a_hint_may_be_an_array_a_picture_or_a_file(folder, nets, tmp_path):
    Image.fromarray(files.hint()).save(tmp_path / "hint.png")
    with sdcpp_py.Pipeline(folder) as pipeline:
        for hint in (Image.fromarray(files.hint()), tmp_path / "hint.png", str(tmp_path / "hint.png")):
            led = made(pipeline, [{"path": nets / "one.safetensors", "image": hint}])
            np.testing.assert_array_equal(led, made(pipeline, [(nets / "one.safetensors", files.hint())]))


def test_two_nets_add(folder, nets):
    """Near zero, what both do is the sum of what each does."""

    def change(*names):
        given = [(nets / f"{name}.safetensors", files.hint(), 1e-3) for name in names]
        return (pipeline.evaluate("unet", controls=given, **inputs) - plain) / 1e-3

    inputs = unet_inputs()
    with sdcpp_py.Pipeline(folder) as pipeline:
        hint_sides = [8 * side for side in inputs["x"].shape[:1:-1]]
        assert hint_sides
        plain = pipeline.evaluate("unet", **inputs)
        one, two, both = change("one"), change("two"), change("one", "two")
    assert np.abs(both - one - two).max() < 0.02 * np.abs(both).max()
    assert min(np.abs(one).max(), np.abs(two).max()) > 0.1 * np.abs(both).max()


def test_nets_are_exchanged_without_a_reload_of_the_model(folder, nets):
    one, two = ([(nets / f"{name}.safetensors", files.hint())] for name in ("one", "two"))
    each = (nets / "one.safetensors").stat().st_size
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=0) as pipeline:
        first = pipeline.generate("a cat", **SMALL)
        led = []
        for given, fresh in ((one, 1), (two, 1), (one + two, 2), (one, 0)):
            result = pipeline.generate("a cat", **SMALL, controls=given)
            led.append(result.latents[0])
            assert (fresh - 1) * each < result.reports["unet"].loaded_bytes <= fresh * each
        np.testing.assert_array_equal(led[0], led[3])
        again = pipeline.generate("a cat", **SMALL)
        assert again.reports["unet"].loaded_bytes == 0
        np.testing.assert_array_equal(again.latents[0], first.latents[0])


@pytest.mark.parametrize("policy", ["pipelined", "capped", "full"])
def test_streamed_is_as_resident(folder, nets, policy):
    whole = [(nets / "one.safetensors", files.hint(), 0.8), Control(nets / "two.safetensors", files.hint(), start=0.3)]
    with sdcpp_py.Pipeline(folder, max_vram=0) as pipeline:
        plain, expected = made(pipeline), made(pipeline, whole)
    budget = 2.2 * least_gib(folder, policy, {"clip_l": 64, "unet": 64, "vae.decoder": 64})
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=budget, plan_policy=policy, link_speed=SPEEDS) as pipeline:
        for controls, wanted in ((None, plain), (whole, expected), (None, plain), (whole, expected)):
            result = pipeline.generate("a cat", **SMALL, controls=controls)
            np.testing.assert_array_equal(result.latents[0], wanted)
            assert result.memory["peak"] <= budget * 2**30
        assert result.reports["unet"].uploaded_bytes > 0


def test_pictures_of_a_batch_are_those_of_single_calls(folder, nets):
    given = [Control(nets / "one.safetensors", files.hint(), mode="control")]
    with sdcpp_py.Pipeline(folder) as pipeline:
        both = pipeline.generate("a cat", **SMALL, batch_count=2, controls=given).latents
        np.testing.assert_array_equal(both[0], made(pipeline, given))
        np.testing.assert_array_equal(both[1], made(pipeline, given, seed=2))


def test_steps_count_as_diffusers_counts_them(folder, nets):
    """Of four steps, those that lie within 0.25 to 0.75 are two."""
    with sdcpp_py.Pipeline(folder) as pipeline:

        def led(start, end):
            return made(pipeline, [Control(nets / "one.safetensors", files.hint(), start=start, end=end)], steps=4)

        middle, plain = led(0.25, 0.75), made(pipeline, steps=4)
        np.testing.assert_array_equal(led(0.2, 0.8), middle)
        np.testing.assert_array_equal(led(0.25, 0.99), middle)
        np.testing.assert_array_equal(led(0.26, 0.49), plain)
        assert np.abs(led(0.26, 0.75) - middle).max() > 1e-4 < np.abs(led(0, 0.75) - middle).max()


def test_weights_and_modes(folder, nets):
    net = nets / "one.safetensors"
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain = made(pipeline)
        with pytest.raises(errors.InvalidArgumentError, match="takes 5 weights"):
            made(pipeline, [Control(net, files.hint(), weights=[1, 2])])
        np.testing.assert_array_equal(made(pipeline, [Control(net, files.hint(), weights=[0] * 5)]), plain)
        np.testing.assert_array_equal(
            made(pipeline, [Control(net, files.hint(), 0.5, weights=[2] * 5)]), made(pipeline, [(net, files.hint(), 1.0)])
        )
        soft = [0.825**away for away in (4, 3, 2, 1, 0)]
        np.testing.assert_array_equal(
            made(pipeline, [Control(net, files.hint(), mode="prompt")]),
            made(pipeline, [Control(net, files.hint(), weights=soft)]),
        )
        # without guidance there is no negative prompt that could be left alone
        alone = [made(pipeline, [Control(net, files.hint(), mode=mode)], cfg_scale=1) for mode in ("prompt", "control")]
        np.testing.assert_array_equal(*alone)
        guided = [made(pipeline, [Control(net, files.hint(), mode=mode)]) for mode in ("prompt", "control")]
        assert np.abs(guided[0] - guided[1]).max() > 1e-3


def test_parameters_tell_it_and_repeat_it(folder, nets):
    given = [Control(nets / "one.safetensors", files.hint(), 0.7, end=0.9, canny=True)]
    with sdcpp_py.Pipeline(folder) as pipeline:
        result = pipeline.generate("a cat", **SMALL, controls=given)
        text = result.image.info["parameters"]
        assert 'ControlNet 0: "Module: canny, Model: one, Weight: 0.7, ' in text
        again = pipeline.generate(**result.parameters, progress=False)
        np.testing.assert_array_equal(again.latents[0], result.latents[0])


def test_loras_and_controls_go_together(folder, nets, tmp_path):
    import adapters

    lora = tiny.write_safetensors(tmp_path / "l.safetensors", adapters.kohya(adapters.matrices("unet", "attn2"), "lora_unet_"))
    given = [(nets / "one.safetensors", files.hint())]
    with sdcpp_py.Pipeline(folder) as pipeline:
        led, plain = made(pipeline, given), made(pipeline)
        assert np.abs(pipeline.generate("a cat", **SMALL, controls=given, loras=[lora]).latents[0] - led).max() > 1e-3
        np.testing.assert_array_equal(made(pipeline, given), led)
        np.testing.assert_array_equal(made(pipeline), plain)


def bad_files(folder):
    net = files.control_net()
    files.write(folder / "xl.safetensors", files.control_net("xl_unet"))
    files.write(folder / "no_hint.safetensors", {k: v for k, v in net.items() if "cond_embedding.blocks.2" not in k})
    files.write(folder / "short.safetensors", {k: v for k, v in net.items() if not k.startswith("down_blocks.1")})
    moved = {"input_blocks.1.": "input_blocks.2.", "input_blocks.2.": "input_blocks.1."}
    exchanged = {moved.get(name[:15], name[:15]) + name[15:]: array for name, array in files.cldm(net).items()}
    files.write(folder / "moved.safetensors", exchanged)
    narrow = {name: array[:16] if "cond_embedding.conv_out" in name else array for name, array in net.items()}
    files.write(folder / "narrow.safetensors", narrow)
    files.write(folder / "unet.safetensors", tiny.part("unet"))
    files.write(folder / "flux.safetensors", {"controlnet_x_embedder.weight": np.zeros((2, 2), np.float32)})
    whole = (folder / "xl.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "text.safetensors").write_text("no tensors")
    return {
        "xl": (errors.UnsupportedModelError, "is a ControlNet for Stable Diffusion XL by its tensors, and this model is"),
        "no_hint": (errors.SdcppError, "."),
        "short": (errors.SdcppError, "."),
        "moved": (errors.UnsupportedModelError, "where the model has"),
        "narrow": (errors.UnsupportedModelError, "where the model has"),
        "unet": (errors.UnsupportedModelError, "holds no ControlNet or T2I-Adapter"),
        "flux": (errors.UnsupportedModelError, "ControlNet for a transformer"),
        "cut": (errors.BadFileError, "."),
        "text": (errors.BadFileError, "."),
        "missing": (errors.ModelNotFoundError, "no such file"),
    }


def test_files_that_do_not_fit_are_refused_and_the_pipeline_goes_on(folder, nets, tmp_path):
    good = [(nets / "one.safetensors", files.hint())]
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain, led = made(pipeline), made(pipeline, good)
        for name, (kind, words) in bad_files(tmp_path).items():
            with pytest.raises(kind, match=words):
                made(pipeline, [*good, (tmp_path / f"{name}.safetensors", files.hint())])
            np.testing.assert_array_equal(made(pipeline), plain)
        np.testing.assert_array_equal(made(pipeline, good), led)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"image": np.zeros((0, 8, 3), np.uint8)}, "pixels|picture"),
        ({"image": "nothing.png"}, "nothing.png"),
        ({"image": 3}, "picture|image"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"start": -0.1}, "start=-0.1"),
        ({"start": 0.6, "end": 0.5}, "start=0.6 after end=0.5"),
        ({"mode": "loud"}, "modes are balanced, prompt, control"),
        ({"weights": "much"}, "list of numbers"),
        ({"weights": [1, None]}, "weights=None"),
        ({"type": "smell"}, "types are openpose"),
        ({"type": "depth"}, "takes hints of one type"),
        ({"path": 7}, "instead of a path"),
        ({"colour": "red"}, "there are path, image"),
    ],
)
def test_bad_entries_say_what_is_wrong(folder, nets, entry, words):
    with sdcpp_py.Pipeline(folder) as pipeline:
        with pytest.raises((errors.SdcppError, ValueError, FileNotFoundError), match=words):
            made(pipeline, [{"path": nets / "one.safetensors", "image": files.hint(), **entry}])
        for given in ("one.safetensors", 3, [("a",)], [3], {}):
            with pytest.raises(errors.InvalidArgumentError, match="controls"):
                made(pipeline, given)


def test_given_as_the_model_it_is_refused_with_the_way_to_use_it(nets):
    with pytest.raises(errors.UnsupportedModelError, match=r"is a ControlNet, .*controls"):
        sdcpp_py.Pipeline(nets / "one.safetensors")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A file of each further kind for the tiny model."""
    folder = tmp_path_factory.mktemp("kinds")
    files.write(folder / "lora.safetensors", files.control_lora()[0])
    files.write(folder / "union.safetensors", files.control_net(types=6))
    files.write(folder / "t2i.safetensors", files.t2i_adapter((32, 64)))
    files.write(folder / "t2i_original.safetensors", files.t2i_original(files.t2i_adapter((32, 64))))
    files.write(folder / "shuffle.safetensors", files.control_net())
    return folder


@pytest.mark.parametrize("kind", ["lora", "union", "t2i", "shuffle"])
def test_every_kind_streamed_is_as_resident_and_leaves_no_trace(folder, nets, kinds, kind):
    own = Control(kinds / f"{kind}.safetensors", files.hint(), end=0.7, type=3 if kind == "union" else None)
    given = [own, (nets / "two.safetensors", files.hint(seed=5), 0.3)]
    with sdcpp_py.Pipeline(folder, max_vram=0) as pipeline:
        plain, one, both = made(pipeline), made(pipeline, [own]), made(pipeline, given)
        assert np.abs(one - plain).max() > 1e-3 < np.abs(both - one).max()
        np.testing.assert_array_equal(made(pipeline), plain)
    budget = 2.2 * least_gib(folder, "pipelined", {"clip_l": 64, "unet": 64, "vae.decoder": 64})
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=budget, link_speed=SPEEDS) as pipeline:
        for controls, wanted in ((given, both), ([own], one), (None, plain), (given, both)):
            np.testing.assert_array_equal(made(pipeline, controls), wanted)


def test_a_t2i_adapters_names_are_equal_and_several_add(folder, kinds):
    names = ("t2i", "t2i_original")
    with sdcpp_py.Pipeline(folder) as pipeline:
        one, other = (made(pipeline, [(kinds / f"{name}.safetensors", files.hint(), 0.5)]) for name in names)
        np.testing.assert_array_equal(one, other)
        twice = [(kinds / "t2i.safetensors", files.hint(), 0.25), (kinds / "t2i_original.safetensors", files.hint(), 0.25)]
        np.testing.assert_array_equal(made(pipeline, twice), one)
        with pytest.raises(errors.InvalidArgumentError, match="takes 2 weights, one for each level"):
            made(pipeline, [Control(kinds / "t2i.safetensors", files.hint(), weights=[1.0])])


def test_a_union_needs_a_type_that_it_has(folder, kinds):
    with sdcpp_py.Pipeline(folder) as pipeline:
        for kind in (None, "tile", 6):
            with pytest.raises(errors.InvalidArgumentError, match="name one of its 6 types"):
                made(pipeline, [Control(kinds / "union.safetensors", files.hint(), type=kind)])
        named, numbered = (made(pipeline, [Control(kinds / "union.safetensors", files.hint(), type=t)]) for t in ("canny", 3))
        np.testing.assert_array_equal(named, numbered)
        other = made(pipeline, [Control(kinds / "union.safetensors", files.hint(), type="depth")])
        assert np.abs(named - other).max() > 1e-4


def test_sdxl_takes_its_own(tmp_path):
    path = files.write(tmp_path / "xl.safetensors", files.control_net("xl_unet"))
    adapter = files.write(tmp_path / "t2i.safetensors", files.t2i_adapter((32, 64), 16))
    small = files.write(tmp_path / "small.safetensors", files.t2i_adapter((32, 64)))
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path / "sdxl", "sdxl")) as pipeline:
        plain = made(pipeline)
        assert np.abs(made(pipeline, [(path, files.hint())]) - plain).max() > 1e-3
        assert np.abs(made(pipeline, [(adapter, files.hint()), (path, files.hint())]) - plain).max() > 1e-3
        with pytest.raises(errors.UnsupportedModelError, match="is a T2I-Adapter for Stable Diffusion 1 or 2"):
            made(pipeline, [(small, files.hint())])
        np.testing.assert_array_equal(made(pipeline), plain)


def test_families_without_such_nets_say_so(nets, tmp_path):
    model = tiny.write_family(tmp_path / "flux", "flux.1")
    with sdcpp_py.Pipeline(model) as pipeline, pytest.raises(errors.UnsupportedModelError, match="this model is FLUX"):
        pipeline.generate("a cat", width=64, height=64, steps=1, controls=[(nets / "one.safetensors", files.hint())])


def test_an_error_of_the_budget_names_one_that_is_enough(folder, nets):
    given = [(nets / "one.safetensors", files.hint())]
    pipeline = sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=1e-4, link_speed=SPEEDS)
    with pipeline, pytest.raises(errors.OverBudgetError) as raised:
        made(pipeline, given)
    enough = raised.value.least_bytes / 2**30
    with sdcpp_py.Pipeline(folder, max_vram=0) as pipeline:
        expected = made(pipeline, given)
    with sdcpp_py.Pipeline(folder, device=SIMULATED, max_vram=enough, link_speed=SPEEDS) as pipeline:
        np.testing.assert_array_equal(made(pipeline, given), expected)


def test_only_the_masked_part_follows_the_same_part_of_the_hint(folder, nets):
    picture, mask = np.full((128, 128, 3), 90, np.uint8), np.zeros((128, 128), np.uint8)
    mask[:64, :64] = 255
    inside, outside = np.zeros((2, 128, 128, 3), np.uint8)
    inside[20, :60] = outside[100, 70:] = 255
    more = {"init_image": picture, "mask_image": mask, "only_masked": True, "only_masked_padding": 0, "mask_blur": 0}
    with sdcpp_py.Pipeline(folder) as pipeline:
        empty = made(pipeline, [(nets / "one.safetensors", np.zeros_like(picture))], **more)
        np.testing.assert_array_equal(made(pipeline, [(nets / "one.safetensors", outside)], **more), empty)
        assert np.abs(made(pipeline, [(nets / "one.safetensors", inside)], **more) - empty).max() > 1e-4


def test_a_larger_second_pass_follows_the_hint_at_its_own_size(folder, nets):
    more = {"hires": True, "hires_scale": 2.0, "hires_denoising_strength": 0.6}
    given = [(nets / "one.safetensors", files.hint(128, 128))]
    with sdcpp_py.Pipeline(folder) as pipeline:
        plain, led = (pipeline.generate("a cat", **SMALL, **more, controls=controls) for controls in (None, given))
        assert led.image.size == (128, 128)
        assert np.abs(led.latents[0] - plain.latents[0]).max() > 1e-3
        both = pipeline.generate("a cat", **SMALL, **more, batch_count=2, controls=given)
        np.testing.assert_array_equal(both.latents[0], led.latents[0])


def test_the_command_line_makes_what_python_makes(folder, nets, tmp_path, capsys):
    Image.fromarray(files.hint()).save(tmp_path / "hint.png")
    flags = ["generate", "a cat", "-m", str(folder), "--steps", "3", "-W", "64", "-H", "64", "-s", "1", "--no-progress"]
    flags += ["--control-net", str(nets / "one.safetensors"), "--control-net", str(nets / "two.safetensors")]
    flags += ["--control-image", str(tmp_path / "hint.png"), "--control-strength", "0.7", "--control-strength", "0.2", "--canny"]
    assert cli.main([*flags, "--control-end", "0.7", "-o", str(tmp_path / "out.png")]) == 0
    given = [
        Control(nets / f"{name}.safetensors", files.hint(), strength, end=0.7, canny=True)
        for name, strength in (("one", 0.7), ("two", 0.2))
    ]
    with sdcpp_py.Pipeline(folder) as pipeline:
        expected = pipeline.generate("a cat", **SMALL, controls=given).image
    np.testing.assert_array_equal(Image.open(tmp_path / "out.png"), expected)
    capsys.readouterr()
    for wrong, words in (
        (["--canny"], "--canny has no effect without --control-net"),
        (["--control-net", "x"], "--control-image FILE"),
        (["--control-net", "x", "--control-image", "y", "--control-image", "z"], "--control-image is given 2 times"),
        (["--control-net", str(nets / "one.safetensors"), "--control-image", str(tmp_path / "no.png")], "no.png"),
    ):
        assert cli.main(["generate", "a cat", "-m", str(folder), *wrong, "-o", str(tmp_path / "no_out.png")]) != 0
        assert words in capsys.readouterr().err


def test_the_other_packages_names(folder, nets, tmp_path):
    hint = Image.fromarray(files.hint())
    sizes = {"width": 64, "height": 64, "sample_steps": 3, "seed": 1}
    with sdcpp_py.StableDiffusion(str(folder), control_net_path=str(nets / "one.safetensors")) as model:
        plain = model.generate_image("a cat", **sizes)[0]
        led = model.generate_image("a cat", **sizes, control_image=hint)[0]
        edges = model.generate_image("a cat", **sizes, control_image=hint, canny=True, control_strength=0.5)[0]
        found = model.preprocess_canny(hint)
    with sdcpp_py.Pipeline(folder) as pipeline:
        for controls, picture in ((None, plain), ([(nets / "one.safetensors", hint)], led)):
            np.testing.assert_array_equal(pipeline.generate("a cat", **SMALL, controls=controls).image, picture)
        given = [(nets / "one.safetensors", found, 0.5)]
        np.testing.assert_array_equal(pipeline.generate("a cat", **SMALL, controls=given).image, edges)
    with sdcpp_py.StableDiffusion(str(folder)) as model, pytest.raises(errors.InvalidArgumentError, match="control_net_path"):
        model.generate_image("a cat", **sizes, control_image=hint)
    with pytest.raises(errors.ModelNotFoundError, match="no such file"):
        sdcpp_py.StableDiffusion(str(folder), control_net_path=str(tmp_path / "none.safetensors"))


def test_edges():
    """A white square's edges are one pixel wide, and what touches a clear edge belongs to it."""
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[10:30, 10:30] = 255
    found = np.asarray(control.canny(picture))
    assert found.shape == (40, 40, 3)
    assert set(np.unique(found)) == {0, 255}
    rows = found[20, :, 0] > 0
    assert rows.sum() == 2
    assert rows[9:11].sum() == rows[29:31].sum() == 1
    ramp = np.zeros((20, 20), np.uint8)
    ramp[:, 10:] = np.linspace(20, 200, 20)[:, None].astype(np.uint8)  # an edge that gets fainter
    clear, linked = (np.asarray(control.canny(np.stack([ramp] * 3, -1), low, 400))[..., 0] > 0 for low in (400, 100))
    assert 0 < clear.sum() < linked.sum()
    assert not np.asarray(control.canny(np.full((9, 9, 3), 40, np.uint8))).any()
    soft = np.asarray(control.soft_canny(picture))
    assert 50 < (soft[..., 0] > 0).sum() < 200
    np.testing.assert_array_equal(np.asarray(control.soft_canny(picture, inverse=True)), 255 - soft)
    with pytest.raises(errors.InvalidArgumentError):
        control.canny(picture, low=-1)


def test_opencv_finds_the_same_edges():
    """Counts of white pixels and a checksum that cv2.Canny 5.0 gave for these pictures."""
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (25, 30, 3)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    picture = ((picture[1:].astype(int) + picture[:-1]) // 2).astype(np.uint8)
    for low, high, white, checksum in OPENCV:
        found = np.asarray(control.canny(picture, low, high))[..., 0]
        assert (int((found > 0).sum()), zlib.crc32(found.tobytes())) == (white, checksum)
