"""Options by name, as the engine keeps them: one table, checked values, near names for unknown ones."""

import re
from pathlib import Path

import numpy as np
import pytest

from sdcpp_py import _engine, errors, options
from sdcpp_py._engine import loading
from sdcpp_py._prompts import Text

SOURCES = Path(__file__).parents[2]


def test_every_row_is_complete():
    assert len({(option.set, option.name) for option in options.TABLE}) == len(options.TABLE) > 30
    for option in options.TABLE:
        assert re.fullmatch(r"[a-z_]+", option.name) and option.help and "\n" not in option.help
        assert option.kind in ("number", "integer", "text", "choice", "switch", "budget", "numbers", "array")
        assert (option.kind == "choice") == bool(option.choices)
        if option.kind in ("number", "integer", "budget", "numbers"):
            assert option.least < option.most
        if option.default_from == "fixed" and option.kind != "text":
            assert option.check(option.keyword_default) == option.keyword_default
        if option.default_from == "model":
            assert option.parse(option.default) is not None
        if option.flags:
            assert option.flags[-1].startswith("--") and option.group


def test_unknown_names_are_refused_with_near_ones():
    with pytest.raises(errors.InvalidArgumentError, match=r"unknown option 'stepz'; did you mean steps\?"):
        _engine.Options("generate", {"stepz": 3})
    with pytest.raises(errors.InvalidArgumentError, match="did you mean generate"):
        _engine.Options("generation", {})
    with pytest.raises(errors.InvalidArgumentError, match="unknown option 'steps'"):
        _engine.Options("model", {"steps": 3})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", 0, "steps is 0; 1 to 10000 are possible"),
        ("steps", 2.5, "steps must be an integer"),
        ("steps", "many", "steps must be an integer, not 'many'"),
        ("cfg_scale", float("nan"), "cfg_scale is nan"),
        ("cfg_scale", "1e4", "cfg_scale is 10000"),
        ("sampler", "eulr", "unknown sampler 'eulr'; did you mean euler"),
        ("sampler", 3, "sampler must be a choice"),
        ("vae_tiling", 2, "vae_tiling must be a switch"),
        ("noise", 1, "noise must be an array"),
        ("noise", np.full((4, 2, 2), np.inf, np.float32), "noise must be finite"),
        ("width", np.zeros(3, np.float32), "width must be an integer, not an array"),
        ("seed", 2**64, "seed must be an integer"),
    ],
)
def test_the_engine_checks_values_too(name, value, says):
    with pytest.raises(errors.InvalidArgumentError, match=re.escape(says)):
        _engine.Options("generate", {name: value})


@pytest.mark.parametrize("seed", [0, 7, 2**53 + 1, 2**63, 2**64 - 1])
def test_seeds_of_64_bits_are_exact(pipeline, seed):
    small = {"width": 64, "height": 64, "steps": 1, "cfg_scale": 1.0, "sampler": "euler"}
    given = pipeline.generate("x", **small, seed=seed)
    assert given.seed == seed and given.parameters["seed"] == seed
    from sdcpp_py import sampling

    noise = sampling.noise((4, 8, 8), seed)
    again = pipeline.generate("x", **small, noise=noise, seed=1)
    np.testing.assert_array_equal(given.latents[0], again.latents[0])


def test_options_left_out_take_the_models_own_in_the_engine_as_well(embedded):
    """The engine's defaults, without Python's help: a plan for a picture of the model's own size."""
    model = embedded._require_open()
    width, height = embedded.default("width"), embedded.default("height")
    own = model.plan("unet", {})
    assert own == model.plan("unet", {"width": width, "height": height, "cfg_scale": embedded.default("cfg_scale")})
    assert own != model.plan("unet", {"width": 2 * width, "height": height})


def test_a_default_is_the_models_or_a_general_one(embedded, pipeline):
    assert (embedded.default("width"), embedded.default("sampler")) == (128, "dpm++2m")
    assert (pipeline.default("width"), pipeline.default("cfg_scale"), pipeline.default("sampler")) == (512, 7.0, "euler_a")
    with pytest.raises(errors.InvalidArgumentError, match="eta"):
        embedded.default("eta")


def test_the_interface_has_a_version_that_is_checked():
    header = (SOURCES / "engine" / "include" / "sdcpp.h").read_text()
    found = int(re.search(r"#define SDCPP_ABI_VERSION (\d+)", header)[1])
    assert found == loading._ABI_VERSION == loading.lib.sdcpp_abi_version() == loading.lib.SDCPP_ABI_VERSION
    loading.check_abi(found)
    with pytest.raises(ImportError, match=rf"version {found + 1}, these sources use version {found}: run `pip install"):
        loading.check_abi(found + 1)


def test_prompts_may_share_a_run(pipeline):
    """A prompt given twice, half each, is that prompt; impossible shares are refused."""
    model = pipeline._require_open()
    used = pipeline._checked({**options.given(options.GENERATE, DEFAULTS), "width": 64, "height": 64, "steps": 2})
    used["seed"] = 3
    one, none = (share.conditionings[0] for share in pipeline._shares(Text("a cat", [], ""), "", used, False))
    shape = (1, 4, 8, 8)

    def run(*shares):
        return model.sample(shares, used, shape, lambda *_: None, stop=pipeline.cancel)

    share = _engine.Share
    expected = run(share([one]), share([none], negative=True))
    twice = run(share([one], weight=0.5), share([one], weight=0.5), share([none], negative=True))
    np.testing.assert_allclose(twice, expected, atol=1e-4)
    with pytest.raises(errors.InvalidArgumentError, match="share of the steps"):
        run(share([one], start=0.5, end=0.2), share([none], negative=True))
    with pytest.raises(errors.InvalidArgumentError, match="conditioning is needed"):
        run()
    with pytest.raises(errors.InvalidArgumentError, match="2 conditionings; 1, or 1"):
        run(share([one, none]), share([none], negative=True))


DEFAULTS = {name: option.keyword_default for name, option in options.GENERATE.items()}
