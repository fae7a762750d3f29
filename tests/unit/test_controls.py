"""ControlNets and T2I-Adapters on tiny models."""

import control_files as files
import numpy as np
import pytest
import tiny
from adapters import unet_inputs
from budgets import SIMULATED, least_gib
from PIL import Image

import sdcpp_py
from sdcpp_py import errors
from sdcpp_py.control import Control

SMALL = {"width": 64, "height": 64, "steps": 3, "seed": 1, "progress": False}
SPEEDS = (2e10, 2e9)


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
    files.write(folder / "unet.safetensors", tiny.part("unet"))
    files.write(folder / "flux.safetensors", {"controlnet_x_embedder.weight": np.zeros((2, 2), np.float32)})
    whole = (folder / "xl.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "text.safetensors").write_text("no tensors")
    return {
        "xl": (errors.UnsupportedModelError, "is a ControlNet for Stable Diffusion XL by its tensors, and this model is"),
        "no_hint": (errors.SdcppError, "."),
        "short": (errors.SdcppError, "."),
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
