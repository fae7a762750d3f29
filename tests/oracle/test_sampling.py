"""Samplers against k-diffusion and diffusers with the same denoiser and noise; schedules against their own references."""

import math

import kdiffusion
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    IPNDMScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from scipy import stats

from sdcpp_py import sampling

reference = kdiffusion.load_sampling()
TOLERANCE = 1e-5
SHAPE = (1, 4, 8, 8)
SIGMAS = sampling.sigmas("karras", 9)
TABLE = np.sqrt((1 - (acp := np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))) / acp)


def denoise(x, sigma):
    """Some smooth nonlinear denoiser, the same for numpy and torch."""
    tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh
    return tanh(0.7 * x / (1 + sigma * sigma) ** 0.5) + 0.1 * x / (1 + sigma)


def model(x, sigma, **_):
    return denoise(x, sigma.view(-1, 1, 1, 1)) if sigma.ndim else denoise(x, sigma)


def start():
    return sampling.noise(SHAPE, 5) * SIGMAS[0]


def noises():
    """Our generator's draws, for k-diffusion's noise_sampler."""
    drawn = 0

    def sampler(*_):
        nonlocal drawn
        drawn += 1
        return torch.from_numpy(sampling.noise(SHAPE, 3, skip=drawn - 1))

    return sampler


def close(ours, theirs):
    theirs = theirs.numpy() if isinstance(theirs, torch.Tensor) else theirs
    return np.abs(ours - theirs).max() / np.abs(theirs).max() < TOLERANCE


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("euler", "sample_euler"),
        ("heun", "sample_heun"),
        ("dpm2", "sample_dpm_2"),
        ("dpm++2m", "sample_dpmpp_2m"),
        ("lms", "sample_lms"),
    ],
)
def test_deterministic_samplers_equal_k_diffusion(name, function):
    theirs = getattr(reference, function)(model, torch.from_numpy(start()), torch.from_numpy(SIGMAS), disable=True)
    assert close(sampling.sample(denoise, start(), SIGMAS, sampler=name), theirs)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("euler_a", "sample_euler_ancestral"),
        ("dpm2_a", "sample_dpm_2_ancestral"),
        ("dpm++2s_a", "sample_dpmpp_2s_ancestral"),
        ("dpm++2m_sde", "sample_dpmpp_2m_sde"),
        ("dpm++3m_sde", "sample_dpmpp_3m_sde"),
        ("dpm++sde", "sample_dpmpp_sde"),
    ],
)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_stochastic_samplers_equal_k_diffusion(name, function, eta):
    x, sigmas = torch.from_numpy(start()), torch.from_numpy(SIGMAS)
    theirs = getattr(reference, function)(model, x, sigmas, disable=True, eta=eta, noise_sampler=noises())
    assert close(sampling.sample(denoise, start(), SIGMAS, sampler=name, eta=eta, seed=3), theirs)


@pytest.mark.parametrize("rng", ["cpu", "cuda"])
@pytest.mark.parametrize("steps", [4, 9])
def test_2m_sde_with_a_brownian_tree_equals_k_diffusion(steps, rng, monkeypatch):
    """torchsde draws on the CPU; for a GPU's noise it is given that generator's draws."""
    if rng == "cuda":
        draws = lambda size, dtype, device, seed: torch.from_numpy(sampling.noise(tuple(size), int(seed), rng="cuda"))  # noqa: E731
        monkeypatch.setattr("torchsde._brownian.brownian_interval._randn", draws)
    sigmas = sampling.sigmas("karras", steps)
    x = sampling.noise(SHAPE, 5) * sigmas[0]
    start, levels = torch.from_numpy(x), torch.from_numpy(sigmas)
    tree = reference.BrownianTreeNoiseSampler(start, levels[levels > 0].min(), levels.max(), seed=2**33 + 3)
    theirs = reference.sample_dpmpp_2m_sde(model, start, levels, disable=True, eta=1.0, noise_sampler=tree)
    ours = sampling.sample(denoise, x, sigmas, sampler="dpm++2m_sde_bt", eta=1.0, seed=2**33 + 3, rng=rng)
    assert close(ours, theirs)


def test_ipndm_equals_diffusers():
    levels = SIGMAS[:-1]
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.alphas, scheduler.betas = torch.ones(len(levels)), torch.from_numpy(levels).double()
    x = torch.from_numpy(start()).double()
    for n, t in enumerate(scheduler.timesteps):
        slope = (x - denoise(x, float(levels[n]))) / float(levels[n])
        x = scheduler.step(slope - x * float(levels[n]), t, x).prev_sample
    assert close(sampling.sample(denoise, start(), levels, sampler="ipndm"), x)


@pytest.mark.parametrize(("name", "kind"), [("unipc", UniPCMultistepScheduler), ("deis", DEISMultistepScheduler)])
@pytest.mark.parametrize("flow", [False, True])
def test_unipc_and_deis_equal_diffusers(name, kind, flow):
    """Levels from just below a flow's first, where diffusers' logarithms are finite."""
    levels = np.concatenate([[0.98], FLOW[1:]]).astype(np.float32) if flow else SIGMAS
    settings = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"} if flow else {"beta_schedule": "scaled_linear"}
    if name == "deis":
        levels = levels[:-1]  # at 0 its logarithms are infinite
    scheduler = kind(solver_order=2, lower_order_final=name == "unipc", **settings)
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.sigmas = torch.from_numpy(levels)
    noise = sampling.noise(SHAPE, 5) * (1 if flow else levels[0])
    x = torch.from_numpy(noise).double()
    for i, t in enumerate(scheduler.timesteps):
        sigma = float(levels[i])
        if flow:
            x = scheduler.step((x - flow_denoise(x, sigma)) / sigma, t, x).prev_sample.double()
        else:  # its samples have variance 1
            scale = math.sqrt(1 + sigma**2)
            noisy = x if i == 0 else x * scale
            out = scheduler.step((noisy - denoise(noisy, sigma)) / sigma, t, noisy / scale)
            x = out.prev_sample.double()
    ours = sampling.sample(flow_denoise if flow else denoise, noise, levels, sampler=name, flow=flow)
    assert close(ours, x if flow else x * math.sqrt(1 + float(levels[-1]) ** 2))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [2, 4, 8])
def test_tcd_equals_diffusers(steps, eta, monkeypatch):
    scheduler = TCDScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.numpy()
    draw = noises()
    monkeypatch.setattr("diffusers.schedulers.scheduling_tcd.randn_tensor", lambda *_, **__: draw())
    sigmas = np.append(TABLE[times], TABLE[0])  # it ends at its first timestep
    scale = np.sqrt(1 + sigmas**2)
    x = sampling.noise(SHAPE, 5) * sigmas[0]
    theirs = torch.from_numpy(x / scale[0]).double()
    for i, t in enumerate(times):
        eps = (theirs * scale[i] - denoise(theirs * scale[i], sigmas[i])) / sigmas[i]
        theirs = scheduler.step(eps, int(t), theirs, eta=eta).prev_sample
    assert close(sampling.sample(denoise, x, sigmas.astype(np.float32), sampler="tcd", eta=eta, seed=3), theirs * scale[-1])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    scheduler.set_timesteps(10)
    levels = np.append(TABLE[scheduler.timesteps.numpy()], 0).astype(np.float32)
    draw = noises()
    x = torch.from_numpy(sampling.noise(SHAPE, 5) * levels[0]) / math.sqrt(1 + levels[0] ** 2)
    for n, t in enumerate(scheduler.timesteps):
        sigma = float(levels[n])
        noisy = x * math.sqrt(1 + sigma**2)
        eps = (noisy - denoise(noisy, sigma)) / sigma
        fresh = draw() if eta > 0 and levels[n + 1] > 0 else torch.zeros(SHAPE)
        x = scheduler.step(eps, t, x, eta=eta, variance_noise=fresh if eta > 0 else None).prev_sample
    ours = sampling.sample(denoise, sampling.noise(SHAPE, 5) * levels[0], levels, sampler="ddim", eta=eta, seed=3)
    assert close(ours, x)


def test_2m_v2_is_2m_where_steps_are_equal_and_takes_their_mean_elsewhere():
    """No reference library has it; equal steps in log sigma make it k-diffusion's 2M, others its formula."""
    equal = sampling.sigmas("exponential", 9)
    x = sampling.noise(SHAPE, 5) * equal[0]
    expected = reference.sample_dpmpp_2m(model, torch.from_numpy(x), torch.from_numpy(equal), disable=True)
    assert close(sampling.sample(denoise, x, equal, sampler="dpm++2m_v2"), expected)

    x, before, h_before = start().astype(np.float64), None, 0.0
    for now, after in zip(SIGMAS[:-1].astype(np.float64), SIGMAS[1:].astype(np.float64)):
        clean = denoise(x, now)
        if after == 0:
            x = clean
            break
        h = math.log(now / after)
        if before is None:
            x = after / now * x + (1 - math.exp(-h)) * clean
        else:
            ratio = max(h, h_before) / min(h, h_before)
            x = after / now * x + (1 - math.exp(-(h + h_before) / 2)) * (clean + (clean - before) / (2 * ratio))
        before, h_before = clean, h
    assert close(sampling.sample(denoise, start(), SIGMAS, sampler="dpm++2m_v2"), x)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_meets_diffusers(steps, monkeypatch):
    scheduler = LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_scaling=1e6)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.numpy()
    draw = noises()
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: draw())
    sigmas = np.append(TABLE[times], 0)
    scale = np.sqrt(1 + sigmas**2)  # from its samples, which have variance 1, to ours
    x = sampling.noise(SHAPE, 5) * sigmas[0]
    theirs = torch.from_numpy(x / scale[0]).double()
    for i, t in enumerate(times):
        eps = (theirs * scale[i] - denoise(theirs * scale[i], sigmas[i])) / sigmas[i]
        theirs = scheduler.step(eps, int(t), theirs).prev_sample
    assert close(sampling.sample(denoise, x, sigmas.astype(np.float32), sampler="lcm", seed=3), theirs)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_karras_exponential_and_discrete_equal_their_references(steps):
    low, high = float(TABLE[0]), float(TABLE[-1])
    assert close(sampling.sigmas("karras", steps), reference.get_sigmas_karras(steps, low, high))
    assert close(sampling.sigmas("exponential", steps), reference.get_sigmas_exponential(steps, low, high))
    logs = np.log(TABLE)
    places = torch.linspace(999, 0, steps).double().numpy()
    assert close(sampling.sigmas("discrete", steps), np.append(np.exp(np.interp(places, np.arange(1000), logs)), 0))


def test_discrete_meets_diffusers_where_timesteps_are_whole():
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(10)
    assert close(sampling.sigmas("discrete", 10), scheduler.sigmas)


@pytest.mark.parametrize("steps", [4, 10, 25])
def test_sgm_uniform_simple_and_kl_optimal(steps):
    logs = np.log(TABLE)
    uniform = np.exp(np.interp(np.linspace(999, 0, steps + 1)[:-1], np.arange(1000), logs))
    assert close(sampling.sigmas("sgm_uniform", steps), np.append(uniform, 0))
    simple = [TABLE[-(1 + int(n * 1000 / steps))] for n in range(steps)]
    assert close(sampling.sigmas("simple", steps), np.append(simple, 0))
    part = np.arange(steps) / (steps - 1)
    optimal = np.tan(part * np.arctan(TABLE[0]) + (1 - part) * np.arctan(TABLE[-1]))
    assert close(sampling.sigmas("kl_optimal", steps), np.append(optimal, 0))


@pytest.mark.parametrize("steps", [4, 10, 25])
def test_beta_equals_scipys_quantiles(steps):
    places = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), 0.6, 0.6) * 999)
    assert close(sampling.sigmas("beta", steps), np.append(TABLE[places.astype(int)], 0))


def test_align_your_steps_gives_the_published_levels():
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    assert np.allclose(sampling.sigmas("ays", 10)[:-1], published, rtol=4e-3)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_logit_normal_equals_diffusers(steps):
    from diffusers.modular_pipelines.ideogram4.before_denoise import _logit_normal_sigmas

    found = sampling.sigmas("logit_normal", steps, flow_shift=1.0)
    assert close(found, torch.cat([_logit_normal_sigmas(steps, 0.0, 1.5), torch.zeros(1)]))


FLOW = sampling.sigmas("simple", 9, flow_shift=3.0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_flow_sigmas_equal_diffusers(shift, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    assert close(sampling.sigmas("simple", steps, flow_shift=shift), scheduler.sigmas)


def flow_denoise(x, sigma):
    """The exact denoiser of data of variance 1/4 under (1 - sigma) * clean + sigma * noise."""
    signal = 1 - sigma
    return x * signal * 0.25 / (signal**2 * 0.25 + sigma**2)


def stepped_by_diffusers(scheduler, x):
    scheduler.set_timesteps(sigmas=FLOW[:-1].astype(np.float64))
    x = torch.from_numpy(x).double()
    for t, sigma in zip(scheduler.timesteps, FLOW):
        x = scheduler.step((x - flow_denoise(x, float(sigma))) / float(sigma), t, x).prev_sample
    return x


def test_flow_euler_equals_diffusers():
    noise = sampling.noise(SHAPE, 5)
    expected = stepped_by_diffusers(FlowMatchEulerDiscreteScheduler(shift=1.0), noise)
    for name in ("euler", "ddim"):
        assert close(sampling.sample(flow_denoise, noise, FLOW, sampler=name, flow=True), expected)


def test_flow_heun_equals_diffusers():
    noise = sampling.noise(SHAPE, 5)
    scheduler = FlowMatchHeunDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(9)
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]]).numpy()
    x = torch.from_numpy(noise).double()
    for i, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[i])
        x = scheduler.step((x - flow_denoise(x, sigma)) / sigma, t, x).prev_sample
    assert close(sampling.sample(flow_denoise, noise, levels, sampler="heun", flow=True), x)


@pytest.mark.parametrize(("name", "kind"), [("dpm++2m", "dpmsolver++"), ("dpm++2m_sde", "sde-dpmsolver++")])
def test_flow_dpmpp_equals_diffusers(name, kind, monkeypatch):
    """From just below the first level, where diffusers' logarithms are finite."""
    levels = np.concatenate([[0.98], FLOW[1:]]).astype(np.float32)
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type=kind,
        solver_type="midpoint",
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        lower_order_final=False,
    )
    scheduler.set_timesteps(9)
    scheduler.sigmas = torch.from_numpy(levels)
    draw = noises()
    monkeypatch.setattr("diffusers.schedulers.scheduling_dpmsolver_multistep.randn_tensor", lambda *_, **__: draw())
    noise = sampling.noise(SHAPE, 5)
    x = torch.from_numpy(noise).double()
    for i, t in enumerate(scheduler.timesteps):
        sigma = float(levels[i])
        x = scheduler.step((x - flow_denoise(x, sigma)) / sigma, t, x).prev_sample.double()
    ours = sampling.sample(flow_denoise, noise, levels, sampler=name, flow=True, seed=3)
    assert close(ours, x)


@pytest.mark.parametrize("name", ["euler_a", "dpm2_a", "dpm++2s_a", "dpm++2m_sde", "dpm++3m_sde", "dpm++sde", "er_sde", "lcm"])
def test_flows_noise_is_renewed_as_a_diffusions(name):
    """x / (1 - sigma) follows a diffusion's course at sigma / (1 - sigma): run there, a sampler gives the same picture."""
    levels = np.append(np.linspace(0.97, 0.05, 8), 0).astype(np.float32)
    ratios = (levels.astype(np.float64) / (1 - levels)).astype(np.float32)
    noise = sampling.noise(SHAPE, 5)

    def as_diffusion(x, ratio):
        sigma = ratio / (1 + ratio)
        return flow_denoise(x * (1 - sigma), sigma)

    flow = sampling.sample(flow_denoise, noise * levels[0], levels, sampler=name, flow=True, seed=3)
    diffusion = sampling.sample(as_diffusion, noise * ratios[0], ratios, sampler=name, seed=3)
    assert close(flow, diffusion)


BEGINNING = ["euler_a", "dpm2", "dpm2_a", "dpm++2s_a", "dpm++2m", "dpm++2m_sde", "dpm++3m_sde", "dpm++sde", "lms", "ipndm"]
BEGINNING += [
    "ipndm_v",
    "deis",
    "unipc",
    "res_multistep",
    "res_2s",
    "er_sde",
    "euler_ge",
    "euler_cfg_pp",
    "euler_a_cfg_pp",
    "tcd",
]


@pytest.mark.parametrize("name", BEGINNING)
def test_flows_begin_at_pure_noise(name):
    levels = sampling.sigmas("simple", 60, flow_shift=1.0)
    found = sampling.sample(flow_denoise, sampling.noise((4, 64, 64), 5), levels, sampler=name, flow=True, seed=3)
    assert 0.45 < found.std() < 0.55, "data of variance 1/4"
