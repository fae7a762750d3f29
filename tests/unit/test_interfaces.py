"""Pipeline, facade and command line share names, order and defaults."""

import inspect

import pytest

import sdcpp_py
from sdcpp_py import cli

# The facade's names where they differ: those of stable-diffusion-cpp-python.
FACADE = {
    "model": "model_path",
    "vae": "vae_path",
    "text_encoders": "clip_l_path",
    "taesd": "taesd_path",
    "threads": "n_threads",
    "rng": "rng_type",
    "offload_to_cpu": "offload_params_to_cpu",
    "steps": "sample_steps",
    "sampler": "sample_method",
    "callback": "progress_callback",
}
FACADE_DEFAULTS = {
    "model_path": "",
    "vae_path": "",
    "taesd_path": "",
    "n_threads": -1,
    "wtype": "default",
    "rng_type": "cuda",
    "negative_prompt": "",
    "clip_skip": -1,
    "width": 512,
    "height": 512,
    "cfg_scale": 7.0,
    "scheduler": "default",
    "sample_method": "default",
    "sample_steps": 20,
    "eta": 0.0,
    "strength": 0.75,
    "seed": 42,
    "batch_count": 1,
    "vae_tiling": False,
    "vae_tile_overlap": 0.5,
    "progress_callback": None,
}


def parameters(function):
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


def command_line(*arguments):
    return vars(cli._parser().parse_args(["generate", "x", *arguments]))


def test_options_are_keyword_only():
    for function in (
        sdcpp_py.Pipeline,
        sdcpp_py.Pipeline.generate,
        sdcpp_py.StableDiffusion,
        sdcpp_py.StableDiffusion.generate_image,
    ):
        kinds = [p.kind for p in parameters(function).values()]
        assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert all(kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for kind in kinds[1:])


def test_the_command_line_has_every_option_with_the_same_default():
    given = command_line()
    # `sdcpp plan` takes link_speed as two numbers; the command line is a whole process
    left_out = {"prompt", "noise", "callback", "use_taesd", "link_speed", "whole_process"}
    for function in (sdcpp_py.Pipeline, sdcpp_py.Pipeline.generate):
        for name, parameter in parameters(function).items():
            if name in left_out:
                continue
            assert name in given, f"the command line lacks {name}"
            assert given[name] == parameter.default, name


def test_the_facade_has_the_other_packages_names_and_defaults():
    found = {**parameters(sdcpp_py.StableDiffusion), **parameters(sdcpp_py.StableDiffusion.generate_image)}
    for name, default in FACADE_DEFAULTS.items():
        assert found[name].default == default, name


def test_shared_options_stand_in_the_same_order():
    def order(first, second, renamed):
        ours = [renamed.get(name, name) for name in parameters(first)]
        theirs = list(parameters(second))
        shared = [name for name in ours if name in theirs]
        return shared, [name for name in theirs if name in shared]

    ours, theirs = order(sdcpp_py.Pipeline, sdcpp_py.StableDiffusion, FACADE)
    assert len(ours) >= 8 and set(ours) == set(theirs)


def test_the_facade_generates(folder):
    steps = []
    with sdcpp_py.StableDiffusion(model_path=folder, n_threads=2, verbose=False) as model:
        images = model.generate_image(
            prompt="x",
            width=64,
            height=64,
            sample_steps=2,
            sample_method="euler",
            progress_callback=lambda step, total, seconds: steps.append((step, total, seconds >= 0)),
        )
    assert images[0].size == (64, 64)
    assert steps == [(1, 2, True), (2, 2, True)]


def test_the_facade_refuses_what_it_cannot_do(folder):
    with sdcpp_py.StableDiffusion(folder) as model:
        with pytest.raises(ValueError, match="control_image"):
            model.generate_image("x", control_image="x.png")
        with pytest.raises(ValueError, match="init_image"):
            model.generate_image("x", init_image="x.png")
    with pytest.raises(ValueError, match="t5xxl_path"):
        sdcpp_py.StableDiffusion(folder, t5xxl_path="t5.safetensors")
