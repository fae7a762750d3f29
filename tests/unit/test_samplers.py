"""Samplers on data whose denoiser is known exactly: their errors are those of the published rules, computed in f64 apart."""

import statistics

import numpy as np
import pytest

import sdcpp_py
from sdcpp_py import errors, sampling
from sdcpp_py.options import SAMPLERS

MEAN, DEVIATION = 0.7, 0.5
FIRST, LAST = 10.0, 0.05
# |x - exact| after 10, 20 and 40 steps by karras from x = 3 at sigma 10 to sigma 0.05
ERRORS = {
    "euler": (1.5e-2, 7.9e-3, 4.0e-3),
    "euler_ge": (9.4e-3, 6.3e-3, 3.6e-3),
    "dpm++2m": (3.5e-3, 1.0e-3, 2.5e-4),
    "res_multistep": (5.9e-3, 1.5e-3, 3.6e-4),
    "res_2s": (7.8e-4, 2.0e-4, 4.9e-5),
    "ipndm": (1.7e-3, 3.7e-4, 8.5e-5),
    "ipndm_v": (3.6e-3, 4.4e-4, 3.9e-5),
}
# how much the error falls, at least, if the steps are doubled from 20 to 40
SECOND_ORDER = ["heun", "dpm2", "dpm2_a", "dpm++2s_a", "dpm++2m_sde", "dpm++3m_sde", "dpm++sde", "deis", "unipc", "plms", "lms"]


def denoise(x, sigma):
    return (MEAN + (x - MEAN) * DEVIATION**2 / (DEVIATION**2 + sigma**2)).astype(np.float32)


def levels(steps):
    part, rho = np.linspace(0, 1, steps + 1), 7
    return ((FIRST ** (1 / rho) + part * (LAST ** (1 / rho) - FIRST ** (1 / rho))) ** rho).astype(np.float32)


def error(name, steps):
    sigmas = levels(steps)
    first, last = float(sigmas[0]), float(sigmas[-1])
    exact = MEAN + (3 - MEAN) * np.sqrt((DEVIATION**2 + last**2) / (DEVIATION**2 + first**2))
    found = sampling.sample(denoise, np.full(1, 3, np.float32), sigmas, sampler=name, eta=0.0)
    return abs(float(found[0]) - exact)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_those_of_the_rules(name):
    for steps, expected in zip((10, 20, 40), ERRORS[name]):
        assert error(name, steps) == pytest.approx(expected, rel=0.06, abs=6e-7)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_twice_the_steps_quarter_the_error(name):
    assert error(name, 40) < error(name, 20) / 3.5


@pytest.mark.parametrize(("steps", "expected"), [(10, -0.027), (20, -0.004), (40, -0.0004)])
def test_er_sde_gives_the_datas_spread(steps, expected):
    sigmas = levels(steps)
    noise = np.random.default_rng(0).standard_normal(100_000)
    x = (MEAN + noise * np.sqrt(DEVIATION**2 + FIRST**2)).astype(np.float32)
    found = sampling.sample(denoise, x, sigmas, sampler="er_sde")
    assert found.std() / np.sqrt(DEVIATION**2 + LAST**2) - 1 == pytest.approx(expected, abs=0.01)


def test_every_sampler_is_tried():
    # all but er_sde beside their references, in the oracle's tests
    apart = {"er_sde", "lcm", "dpm++2m_v2", "tcd", "dpm++2m_sde_bt"}
    like_euler = {"ddim", "euler_a", "euler_cfg_pp", "euler_a_cfg_pp"}
    assert set(SAMPLERS) == {*ERRORS, *SECOND_ORDER, *like_euler, *apart}
    for name in like_euler:
        assert error(name, 20) == pytest.approx(error("euler", 20), rel=1e-3)


def test_levels_of_ones_own_take_the_place_of_a_schedule(caplog):
    levels = sampling.sigmas("karras", 5)
    small = {"seed": 1, "width": 64, "height": 64, "progress": False}
    with sdcpp_py.Pipeline() as pipeline:
        usual = pipeline.generate("a red circle", steps=5, scheduler="karras", **small)
        own = pipeline.generate("a red circle", sigmas=levels, **small)
        np.testing.assert_allclose(own.latents[0], usual.latents[0], atol=5e-3)
        assert own.parameters["steps"] == 5 and "Steps: 5, " in own.image.info["parameters"]
        again = pipeline.generate(**own.parameters)
        assert np.array_equal(own.latents[0], again.latents[0]) and not caplog.text
        text = ",".join(map(str, levels))
        assert pipeline.generate("a red circle", sigmas=text, init_image=own.image, strength=0.5, **small).images
        pipeline.generate("a red circle", sigmas=[3, 0], steps=7, **small)
        assert "no effect with sigmas" in caplog.text
        for wrong in ("1,2", "x", [3], [3, float("nan")], [3, -1]):
            with pytest.raises(errors.InvalidArgumentError, match="sigmas"):
                pipeline.generate("a red circle", sigmas=wrong, **small)


def test_schedules_follow_their_formulas():
    table = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)
    share = 1 - np.arange(8) / 8
    places = np.rint(999 * (3 * share**2 - 2 * share**3)).astype(int)
    np.testing.assert_allclose(sampling.sigmas("smoothstep", 8)[:-1], table[places], rtol=1e-5)
    np.testing.assert_allclose(sampling.sigmas("gits", 10)[1:4], (4.617, 2.507, 1.236), rtol=1e-5)

    steps, half = 9, 4  # Mochi's pipeline: a straight line to 1 - 0.025, then a parabola to 0
    line = [1 - 0.025 * i / half for i in range(half)]
    a = (half - 0.025 * steps) / (half * (steps - half) ** 2)
    b = 0.025 / half - 2 * (half - 0.025 * steps) / (steps - half) ** 2
    curve = [1 - (a * i * i + b * i + a * half * half) for i in range(half, steps)]
    np.testing.assert_allclose(sampling.sigmas("linear_quadratic", steps)[:-1], np.array(line + curve) * table[-1], rtol=1e-5)

    every, first = 12, 7  # bong_tangent of 10 steps

    def arc(x, turn):
        return np.arctan(-0.2 * 40 / every * (x - turn)) / np.pi + 0.5

    def between(values, high, low):
        return low + (high - low) * (values - values[-1]) / (values[0] - values[-1])

    pieces = [between(arc(np.arange(first), first), 1, 0.5)[:-1], between(arc(np.arange(every - first), 0), 0.5, 0)]
    np.testing.assert_allclose(sampling.sigmas("bong_tangent", 10), np.concatenate(pieces) * table[-1], rtol=1e-5, atol=1e-6)


def test_logit_normal_spreads_the_logarithm_of_noise_to_signal():
    quantiles = [statistics.NormalDist().inv_cdf(1 - i / 8) for i in range(1, 8)]
    expected = [0.99987661, *(1 / (1 + np.exp(-1.5 * one)) for one in quantiles)]
    np.testing.assert_allclose(sampling.sigmas("logit_normal", 8, flow_shift=1.0)[:-1], expected, rtol=1e-6)
    diffusion = sampling.sigmas("logit_normal", 8)
    assert diffusion[0] == pytest.approx(14.6146, rel=1e-4) and (np.diff(diffusion) < 0).all()


def test_a_brownian_motion_does_not_depend_on_the_number_of_steps():
    """The same seed goes a similar way with twice the steps; with fresh noise it does not."""

    def made(name, steps):
        x = np.full(4096, 3, np.float32)
        return sampling.sample(denoise, x, levels(steps), sampler=name, eta=1.0, seed=7)

    def likeness(name):
        return np.corrcoef(made(name, 40), made(name, 80))[0, 1]

    assert likeness("dpm++2m_sde_bt") > 0.9
    assert likeness("dpm++2m_sde") < 0.5
    np.testing.assert_array_equal(made("dpm++2m_sde_bt", 20), made("dpm++2m_sde_bt", 20))
