"""Skip-layer guidance against diffusers' guider, first-block caching against its hooks, f32.

Its hook that skips blocks swaps the two streams of FLUX.1, and none of its hooks takes Z-Image's blocks, whose argument is named
otherwise: there the blocks are patched here.
"""

import contextlib

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers.guiders import SkipLayerGuidance
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from test_families import flux_states, their_direction, their_flux, z_states

import sdcpp_py
from sdcpp_py import sampling

TOLERANCE = 1e-4
STEPS = 12
SIZE = (8, 12)
LISTS = {"z-image": "layers", "flux.1": "transformer_blocks"}


def their_network(family):
    """A transformer, and its prediction for a text at a level of noise."""
    if family == "z-image":
        net = tiny_models.z_transformer()
        return net, lambda x, sigma, text: their_direction(net, x, torch.tensor([1000 * sigma]), [z_states(text)])
    net = tiny_models.f_transformer()

    def predict(x, sigma, text):
        return their_flux(net, x, torch.tensor([1000 * sigma]), *flux_states(text), torch.tensor([3.5]))

    return net, predict


@contextlib.contextmanager
def without(net, family, layers):
    blocks = [getattr(net, LISTS[family])[layer] for layer in layers]
    for block in blocks:
        if family == "z-image":
            block.forward = lambda x, *_, **__: x
        else:
            block.forward = lambda hidden_states, encoder_hidden_states, **_: (encoder_hidden_states, hidden_states)
    yield
    for block in blocks:
        del block.forward


def cache_first_block(net, threshold):
    """ParaAttention's rule on Z-Image's two layers."""
    first, second = net.layers
    own = [first.forward, second.forward]
    kept = {"first": None, "rest": None, "skips": False}

    def head(x, *arguments, **keywords):
        out = own[0](x, *arguments, **keywords)
        added = out - x
        before = kept["first"]
        kept["skips"] = before is not None and (added - before).abs().mean() / before.abs().mean() < threshold
        if not kept["skips"]:
            kept["first"], kept["head"] = added, out
        return out

    def tail(x, *arguments, **keywords):
        if kept["skips"]:
            return x + kept["rest"]
        out = own[1](x, *arguments, **keywords)
        kept["rest"] = out - kept["head"]
        return out

    first.forward, second.forward = head, tail


def made(family, tmp_path, noise, **options):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path, family)) as ours:
        given = {"noise": noise, "steps": STEPS, "height": 8 * SIZE[0], "width": 8 * SIZE[1], "flow_shift": 3.0}
        return ours.generate("a red circle", sampler="euler", scheduler="simple", progress=False, **given, **options)


def levels():
    return sampling.sigmas("simple", STEPS, flow_shift=3.0)


@torch.no_grad()
@pytest.mark.parametrize("family", LISTS)
@pytest.mark.parametrize(("layers", "cfg"), [([1], 1.0), ([0], 3.0), ([0, 1], 3.0)])
def test_skip_layer_guidance(tmp_path, error, family, layers, cfg):
    noise = sampling.noise((16, *SIZE), 21, rng="cpu")
    found = made(
        family,
        tmp_path,
        noise,
        negative_prompt="blurry",
        cfg_scale=cfg,
        slg_scale=2.8,
        skip_layers=layers,
        skip_layer_end=0.5,
    ).latents[0]
    net, predict = their_network(family)
    # theirs alone, and not the published formula, adds to the weaker prediction unless it is told otherwise
    original = {"guidance_scale": cfg - 1, "use_original_formulation": True}
    guider = SkipLayerGuidance(
        skip_layer_guidance_scale=2.8, skip_layer_guidance_stop=0.5, skip_layer_guidance_layers=layers, **original
    )
    x, asked = torch.from_numpy(noise)[None], 0
    for step, (now, after) in enumerate(zip(levels()[:-1], levels()[1:])):
        guider.set_state(step, STEPS, torch.tensor(1000 * now))
        wanted, away, weaker = predict(x, now, "a red circle"), None, None
        if cfg != 1:
            away = predict(x, now, "blurry")
        if guider._is_slg_enabled():
            asked += 1
            with without(net, family, layers):
                weaker = predict(x, now, "a red circle")
        x = x + (after - now) * guider.forward(wanted, away, weaker).pred
    assert asked == 5
    assert error(found, x) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("family", "threshold"), [("z-image", 1.2), ("z-image", 1.5), ("flux.1", 0.6), ("flux.1", 0.9)])
def test_first_block_caching(tmp_path, error, family, threshold):
    noise = sampling.noise((16, *SIZE), 22, rng="cpu")
    cache = {"cache_mode": "first_block", "cache_threshold": threshold, "cache_start": 0.0, "cache_end": 1.0}
    found = made(family, tmp_path, noise, cfg_scale=1.0, **cache)
    net, predict = their_network(family)
    if family == "z-image":
        cache_first_block(net, threshold)
    else:
        apply_first_block_cache(net, FirstBlockCacheConfig(threshold))
        _set_cache_context(net, CacheContext("all"))
    x = torch.from_numpy(noise)[None]
    for now, after in zip(levels()[:-1], levels()[1:]):
        x = x + (after - now) * predict(x, now, "a red circle")
    assert error(found.latents[0], x) < TOLERANCE
    plain = made(family, tmp_path, noise, cfg_scale=1.0).latents[0]
    assert np.abs(plain - found.latents[0]).max() > 1e-3, "some steps were skipped"
