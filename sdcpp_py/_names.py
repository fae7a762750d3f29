"""Names that people bring from other programs: samplers, schedules and keywords."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from sdcpp_py.errors import UnknownKeywordError, shown

Given = ParamSpec("Given")
Result = TypeVar("Result")

#: Names in the menus of A1111's web UI, by ours: what is written into pictures, so that it can be read there.
SAMPLER_TITLES = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpm++2s_a": "DPM++ 2S a",
    "dpm++2m": "DPM++ 2M",
    "dpm++2m_sde": "DPM++ 2M SDE",
    "dpm++3m_sde": "DPM++ 3M SDE",
    "dpm++sde": "DPM++ SDE",
    "lms": "LMS",
    "ddim": "DDIM",
    "lcm": "LCM",
    "plms": "PLMS",
    "unipc": "UniPC",
}
SCHEDULE_TITLES = {
    "discrete": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ays": "Align Your Steps",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "gits": "Align Your Steps GITS",
}
# ComfyUI's, diffusers' and stable-diffusion.cpp's names that folding does not bring to ours.
_OTHER_SAMPLERS = {
    "dpm++2msdegpu": "dpm++2m_sde",
    "dpm++3msdegpu": "dpm++3m_sde",
    "dpm++sdegpu": "dpm++sde",
    "unipcmultistepscheduler": "unipc",
    "unipcbh2": "unipc",
    "deismultistepscheduler": "deis",
    "tcdscheduler": "tcd",
    "eulerdiscretescheduler": "euler",
    "eulerancestraldiscretescheduler": "euler_a",
    "heundiscretescheduler": "heun",
    "dpmsolvermultistepscheduler": "dpm++2m",
    "lmsdiscretescheduler": "lms",
    "ddimscheduler": "ddim",
    "lcmscheduler": "lcm",
    "pndmscheduler": "plms",
    "pndm": "plms",
    "keuler": "euler",
    "keulera": "euler_a",
}
_OWN_DEFAULT = ("default", "automatic", "auto")
_OTHER_SCHEDULES = {"normal": "discrete", "linspace": "discrete", "alignyoursteps": "ays"}

#: Keywords of diffusers, A1111's API, ComfyUI and stable-diffusion-cpp-python, and ours for the same.
KEYWORDS = {
    "num_inference_steps": "steps",
    "sample_steps": "steps",
    "guidance_scale": "cfg_scale",
    "cfg": "cfg_scale",
    "generator": "seed",
    "num_images_per_prompt": "batch_count",
    "batch_size": "batch_count",
    "n_iter": "batch_count",
    "latents": "noise",
    "image": "init_image",
    "t5xxl": "text_encoders",
    "init_images": "init_image",
    "denoise": "strength",
    "denoising_strength": "strength",
    "sampler_name": "sampler",
    "sample_method": "sampler",
    "sampler_index": "sampler",
    "schedule": "scheduler",
    "callback_on_step_end": "callback",
    "progress_callback": "callback",
    "distilled_guidance_scale": "guidance",
    "model_path": "model",
    "pretrained_model_name_or_path": "model",
    "diffusion_model_path": "diffusion_model",
    "vae_path": "vae",
    "llm_path": "llm",
    "taesd_path": "taesd",
    "clip_l_path": "text_encoders",
    "clip_g_path": "text_encoders",
    "t5xxl_path": "text_encoders",
    "n_threads": "threads",
    "torch_dtype": "wtype",
    "dtype": "wtype",
    "offload_params_to_cpu": "offload_to_cpu",
    "rng_type": "rng",
}


def _folded(name: str) -> str:
    """Without what spellings differ in."""
    lower = re.sub(r"[\s_\-./]", "", name.lower())
    return lower.replace("dpmpp", "dpm++").replace("ancestral", "a")


def _spellings(known: tuple[str, ...], titles: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The engine's names by every folded spelling."""
    return {_folded(name): name for name in known} | {_folded(title): name for name, title in titles.items()} | dict(others)


def schedule(name: Any, known: tuple[str, ...]) -> Any:
    """The engine's name of a schedule for another spelling of it; else ``name`` itself."""
    if not isinstance(name, str) or name in known:
        return name
    if _folded(name) in _OWN_DEFAULT:
        return None
    return _spellings(known, SCHEDULE_TITLES, _OTHER_SCHEDULES).get(_folded(name), name)


def sampler(name: Any, known: tuple[str, ...], schedules: tuple[str, ...]) -> tuple[Any, str | None]:
    """The engine's name of a sampler for another spelling of it, and a schedule if the name ends with one.

    "DPM++ 2M Karras" gives "dpm++2m" and "karras". A name that is not understood comes back unchanged.
    """
    if not isinstance(name, str) or name in known:
        return name, None
    folded = _folded(name)
    if folded in _OWN_DEFAULT:
        return None, None
    samplers = _spellings(known, SAMPLER_TITLES, _OTHER_SAMPLERS)
    if folded in samplers:
        return samplers[folded], None
    endings = _spellings(schedules, SCHEDULE_TITLES, _OTHER_SCHEDULES)
    for ending in sorted(endings, key=len, reverse=True):
        if folded.endswith(ending) and (found := samplers.get(folded.removesuffix(ending))):
            return found, endings[ending]
    return name, None


def keyword(name: str, known: Collection[str], own: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Those of the keywords ``known`` that may be meant by ``name``; ``own``: other names of ours there."""
    ours = KEYWORDS.get(name, name)
    theirs = own.get(ours, ours)
    return [theirs] if theirs in known else difflib.get_close_matches(name, known, n=2, cutoff=0.7)


def helpful(function: Callable[Given, Result], own: Mapping[str, str] = MappingProxyType({})) -> Callable[Given, Result]:
    """Let ``function`` say which of its keywords is meant by one that it does not have, by raising UnknownKeywordError.

    ``own`` are its names of our keywords, if they are others.
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*arguments: Given.args, **keywords: Given.kwargs) -> Result:
        for name in keywords:
            if name not in known:
                near = keyword(name, known, own)
                hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(known)}"
                raise UnknownKeywordError(f"unknown keyword {shown(name)}{hint}")
        return function(*arguments, **keywords)

    return checked
