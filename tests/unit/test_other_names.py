"""Names that people bring from other programs."""

import pytest

import sdcpp_py
from sdcpp_py import _names, errors, options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("DPM++ 2M Karras", ("dpm++2m", "karras")),
        ("DPM++ 2M SDE Exponential", ("dpm++2m_sde", "exponential")),
        ("dpmpp_2m", ("dpm++2m", None)),
        ("dpmpp_2m_sde_gpu", ("dpm++2m_sde", None)),
        ("euler_ancestral", ("euler_a", None)),
        ("Euler a", ("euler_a", None)),
        ("dpm++2mv2", ("dpm++2m_v2", None)),
        ("dpmpp_2s_ancestral", ("dpm++2s_a", None)),
        ("EulerDiscreteScheduler", ("euler", None)),
        ("LMS Karras", ("lms", "karras")),
        ("default", (None, None)),
        ("eulr", ("eulr", None)),
        (3, (3, None)),
    ],
)
def test_samplers(given, expected):
    assert _names.sampler(given, options.SAMPLERS, options.SCHEDULERS) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("normal", "discrete"),
        ("Karras", "karras"),
        ("SGM Uniform", "sgm_uniform"),
        ("Align Your Steps", "ays"),
        ("Automatic", None),
    ],
)
def test_schedules(given, expected):
    assert _names.schedule(given, options.SCHEDULERS) == expected


def test_every_title_is_a_samplers_or_a_schedules_and_leads_back_to_it():
    assert set(_names.SAMPLER_TITLES) <= set(options.SAMPLERS) and set(_names.SCHEDULE_TITLES) <= set(options.SCHEDULERS)
    for name, title in _names.SAMPLER_TITLES.items():
        assert _names.sampler(title, options.SAMPLERS, options.SCHEDULERS) == (name, None)
    for name, title in _names.SCHEDULE_TITLES.items():
        assert _names.schedule(title, options.SCHEDULERS) == name
    assert set(_names._OTHER_SAMPLERS.values()) <= set(options.SAMPLERS)


def test_generate_understands_them(pipeline):
    small = {"width": 64, "height": 64, "steps": 2}
    result = pipeline.generate("x", **small, sampler="DPM++ 2M Karras")
    assert (result.parameters["sampler"], result.parameters["scheduler"]) == ("dpm++2m", "karras")
    assert "Sampler: DPM++ 2M, Schedule type: Karras" in result.image.info["parameters"]
    result = pipeline.generate("x", **small, sampler="LMS Karras", scheduler="Exponential")
    assert (result.parameters["sampler"], result.parameters["scheduler"]) == ("lms", "exponential")
    with pytest.raises(errors.InvalidArgumentError, match="unknown sampler 'eulr'; did you mean euler"):
        pipeline.generate("x", **small, sampler="eulr")


@pytest.mark.parametrize(
    ("name", "ours"),
    [("num_inference_steps", "steps"), ("guidance_scale", "cfg_scale"), ("stepz", "steps"), ("cfgscale", "cfg_scale")],
)
def test_a_stray_keyword_gets_the_right_one_named(pipeline, name, ours):
    with pytest.raises(TypeError, match=f"unknown keyword '{name}'; did you mean {ours}"):
        pipeline.generate("x", **{name: 3})
    with pytest.raises(errors.InvalidArgumentError, match="did you mean wtype"):
        sdcpp_py.Pipeline(torch_dtype="f16")
    with pytest.raises(errors.UnknownKeywordError, match="there are: prompt, "):
        pipeline.generate("x", zzz=1)


def test_the_keywords_named_exist():
    import inspect

    known = {*inspect.signature(sdcpp_py.Pipeline).parameters, *inspect.signature(sdcpp_py.Pipeline.generate).parameters}
    assert set(_names.KEYWORDS.values()) <= known
