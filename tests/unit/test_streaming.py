"""Streaming: the same pictures bit for bit under every budget and policy, budgets kept, uploads counted."""

import threading

import numpy as np
import pytest
from budgets import SIMULATED, least_gib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sdcpp_py
from sdcpp_py import errors

GIB = 2**30
STEPS = 2


def make(*, device="CPU", batch=1, cfg=3.0, width=128, **memory):
    with sdcpp_py.Pipeline(device=device, link_speed=(2e10, 2e9), **memory) as pipeline:
        return pipeline.generate(
            "a red circle", width=width, height=128, steps=STEPS, cfg_scale=cfg, seed=5, batch_count=batch, progress=False
        )


def same(result, reference):
    assert len(result.images) == len(reference.images)
    for ours, theirs in zip(result.latents, reference.latents):
        np.testing.assert_array_equal(ours, theirs)
    # Pictures are compared in a test of their own: under the smallest budgets the decoder takes tiles.


@pytest.fixture(scope="module")
def references():
    return {(batch, cfg): make(batch=batch, cfg=cfg, max_vram=0) for batch in (1, 2, 3) for cfg in (1.0, 3.0)}


POLICIES = ("auto", "pipelined", "capped", "full")


NETWORKS = {"clip_l": 128, "unet": 128, "vae.decoder": 64}  # the decoder's is for its smallest tile


@pytest.fixture(scope="module")
def least():
    """The smallest budget on the simulated device, in GiB, for each policy."""
    return {policy: least_gib(None, policy, NETWORKS) for policy in POLICIES}


@pytest.fixture(scope="module")
def least_on_cpu():
    return {policy: least_gib(None, policy, NETWORKS, device="CPU") for policy in POLICIES}


@pytest.mark.parametrize("device", ["CPU", SIMULATED])
@pytest.mark.parametrize("policy", ["pipelined", "capped", "full"])
@pytest.mark.parametrize("share", [1.05, 1.5, 3.0])
def test_pictures_are_bit_identical_under_every_policy(references, least, least_on_cpu, device, policy, share):
    budget = (least_on_cpu if device == "CPU" else least)[policy] * share
    result = make(device=device, max_vram=budget, plan_policy=policy)
    same(result, references[1, 3.0])
    assert result.memory["peak"] <= budget * GIB
    assert result.reports["unet"].plan.policy == policy


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    share=st.floats(1.02, 4), batch=st.integers(1, 3), cfg=st.sampled_from([1.0, 3.0]), policy=st.sampled_from(["auto", "capped"])
)
def test_pictures_are_bit_identical_for_batches_and_guidance(references, least, share, batch, cfg, policy):
    result = make(device=SIMULATED, max_vram=least[policy] * share, plan_policy=policy, batch=batch, cfg=cfg)
    same(result, references[batch, cfg])
    assert result.memory["peak"] <= least[policy] * share * GIB


@pytest.mark.parametrize("device", ["CPU", SIMULATED])
@pytest.mark.parametrize("share", [1.001, 1.2, 2.0])
def test_decoded_pictures_are_bit_identical(references, device, share):
    latent, whole = references[1, 3.0].latents[0], np.asarray(references[1, 3.0].images[0])
    with sdcpp_py.Pipeline(max_vram=1e-4) as pipeline, pytest.raises(errors.OverBudgetError) as caught:
        pipeline.decode(latent, vae_tiling=False)
    with sdcpp_py.Pipeline(device=device, max_vram=caught.value.least_bytes * share / GIB) as pipeline:
        np.testing.assert_array_equal(np.asarray(pipeline.decode(latent)), whole)
    with sdcpp_py.Pipeline(device=device, max_vram=caught.value.least_bytes * 0.8 / GIB) as pipeline:
        assert pipeline.decode(latent).size == (128, 128)  # in tiles


def test_uploads_are_counted_and_do_not_grow_with_the_batch(least):
    for batch, cfg in ((1, 1.0), (1, 3.0), (3, 3.0)):
        report = make(device=SIMULATED, max_vram=least["pipelined"] * 2.5, plan_policy="pipelined", batch=batch, cfg=cfg).reports[
            "unet"
        ]
        plan = report.plan
        assert plan.streamed_bytes_per_step > 0
        assert plan.passes == 1
        assert plan.streamed_bytes_per_step == sum(s.streamed_bytes for s in plan.segments)
        ahead = sum(plan.slots)  # uploads for the next step, already under way
        expected = plan.resident_bytes + STEPS * plan.streamed_bytes_per_step
        assert expected <= report.uploaded_bytes + (plan.resident_bytes if report.replanned else 0)
        assert report.uploaded_bytes <= expected + ahead + (expected if report.replanned else 0)


def test_loading_everything_while_computing_changes_nothing(references):
    result = make(device=SIMULATED, max_vram=0)
    same(result, references[1, 3.0])
    report = result.reports["unet"]
    assert len(report.plan.segments) == 1 and report.uploaded_bytes == report.loaded_bytes == report.plan.resident_bytes


def test_resident_weights_are_uploaded_once(references):
    result = make(device=SIMULATED, max_vram=0.5)
    report = result.reports["unet"]
    assert report.plan.streamed_bytes_per_step == 0
    assert report.uploaded_bytes == report.plan.resident_bytes
    same(result, references[1, 3.0])


def test_a_pipeline_goes_on_after_an_interrupt_and_with_other_sizes(references, least):
    with sdcpp_py.Pipeline(device=SIMULATED, max_vram=least["auto"] * 2, link_speed=(2e10, 2e9)) as pipeline:
        options = {"steps": STEPS, "cfg_scale": 3.0, "seed": 5, "progress": False, "height": 128}

        def stop(step):
            raise KeyError("enough")

        with pytest.raises(KeyError):
            pipeline.generate("a red circle", width=128, callback=stop, **options)
        timer = threading.Timer(0.15, pipeline.cancel)
        timer.start()
        with pytest.raises(errors.CancelledError):
            pipeline.generate("a red circle", width=128, **{**options, "steps": 200})
        for _ in range(2):
            same(pipeline.generate("a red circle", width=128, **options), references[1, 3.0])
        wide = pipeline.generate("a red circle", width=192, **options)
        assert wide.images[0].size == (192, 128)
        same(pipeline.generate("a red circle", width=128, **options), references[1, 3.0])


def test_too_small_a_budget_names_the_stage_and_the_smallest_budget(references, least_on_cpu):
    with pytest.raises(errors.OverBudgetError, match=r"stage (unet|clip_l|vae\.decoder)\.") as caught:
        make(max_vram=least_on_cpu["auto"] * 0.5)
    enough = caught.value.least_bytes / GIB
    same(make(max_vram=max(enough, least_on_cpu["auto"]) * 1.02), references[1, 3.0])


def test_memory_that_others_took_leads_to_a_new_plan(references, least):
    card = round(least["auto"] * 1.9, 6)
    result = make(device=f"simulated:vram={card:.6f},link=2", max_vram=2)
    assert result.memory["peak"] <= card * GIB
    assert result.reports["unet"].plan.streamed_bytes_per_step > 0
    same(result, references[1, 3.0])


def test_without_options_what_does_not_fit_is_streamed(references, least):
    card = least["auto"] * 1.9
    result = make(device=f"simulated:vram={card:.6f},link=2")
    assert result.reports["unet"].plan.streamed_bytes_per_step > 0
    same(result, references[1, 3.0])


def test_layers_can_be_capped(references, least):
    few = make(device=SIMULATED, max_vram=least["auto"] * 3, gpu_layers=2)
    assert len([s for s in few.reports["unet"].plan.resident_stages]) <= 4  # stages without weights are not counted
    same(few, references[1, 3.0])
    many = make(device=SIMULATED, max_vram=0.5, gpu_layers=10_000)
    assert many.reports["unet"].plan.streamed_bytes_per_step == 0


def test_switches_off_hold_weights_back(references, least):
    same(make(device=SIMULATED, max_vram=0.5, offload_to_cpu=False), references[1, 3.0])
    result = make(device=SIMULATED, max_vram=least["full"] * 1.5, stream_layers=False)
    plan = result.reports["unet"].plan
    assert plan.resident_bytes == 0
    same(result, references[1, 3.0])


def test_the_previewed_plan_is_the_one_that_runs(least_on_cpu):
    budget = least_on_cpu["pipelined"] * 1.5
    with sdcpp_py.Pipeline(max_vram=budget, plan_policy="pipelined", link_speed=(2e10, 2e9)) as pipeline:
        shown = pipeline.plan(width=128, height=128, cfg_scale=3.0)
        ran = pipeline.generate("a red circle", steps=1, cfg_scale=3.0, seed=1, progress=False).reports["unet"].plan
    assert shown.resident_stages == ran.resident_stages
    assert ran.peak_bytes <= budget * GIB


def test_budgets_may_name_devices(references, least):
    enough = least["auto"] * 3
    result = make(device=SIMULATED, max_vram=f"CUDA0=99,{enough}")
    assert result.memory["peak"] <= enough * GIB


@pytest.mark.parametrize("device", ["simulated:vram=0", "simulated:speed=3", "simulated:link=x", "simulated:slowdown=0.5"])
def test_a_simulated_device_that_makes_no_sense_is_refused(device):
    with pytest.raises(errors.InvalidArgumentError, match="simulated"):
        sdcpp_py.Pipeline(device=device)


UPLOADING = {"device": "simulated", "link_speed": (5e10, 2e9)}


def evaluations(order, mib):
    """Outputs of the UNet for inputs (batch, side) in this order, and the bytes that were uploaded in all."""
    outputs, reports = turns([("unet", *shape) for shape in order], mib)
    return outputs, reports["unet"].uploaded_bytes


def turns(order, mib):
    """Outputs of networks for inputs (name, batch, side) in this order, and the networks' reports."""

    def evaluate(pipeline, network, batch, side):
        rng = np.random.default_rng(side)
        x = rng.standard_normal((batch, 4, side, side), np.float32)
        if network != "unet":
            return pipeline.evaluate(network, x=x)
        context = rng.standard_normal((batch, 77, 96), np.float32)
        return pipeline.evaluate("unet", x=x, timesteps=np.full(batch, 500.0, np.float32), context=context)

    with sdcpp_py.Pipeline(max_vram=mib / 1024, **UPLOADING) as pipeline:
        outputs = [evaluate(pipeline, *turn) for turn in order]
        return outputs, pipeline._reports()


@pytest.mark.parametrize(("one", "other"), [((1, 16), (2, 16)), ((1, 16), (1, 24)), ((1, 16), (2, 24))])
@pytest.mark.parametrize("mib", [10, 20, 61])
def test_shapes_that_take_turns_leave_weights_where_they_are(one, other, mib):
    in_turns, turned_bytes = evaluations([one, other] * 4, mib)
    in_order, ordered_bytes = evaluations([one] * 4 + [other] * 4, mib)
    assert turned_bytes <= 1.1 * ordered_bytes
    for ours, theirs in zip(in_turns[0::2] + in_turns[1::2], in_order):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("one", [(1, 16), (1, 8), (1, 24), (2, 16)])
def test_shapes_that_take_turns_while_parts_are_streamed_cost_no_more_than_the_larger_shape(one):
    larger, mib = (2, 24), 9  # about 5 of 8.7 MiB of weights stay
    in_turns, turned_bytes = evaluations([one, larger] * 6, mib)
    in_order, ordered_bytes = evaluations([larger] * 12, mib)
    assert turned_bytes <= 1.1 * ordered_bytes
    for ours in in_turns[1::2]:
        np.testing.assert_array_equal(ours, in_order[0])


@pytest.mark.parametrize("mib", [9.2, 10.5, 12.3, 14, 16, 18, 20])
def test_networks_that_take_turns_reload_only_what_cannot_stay(mib):
    denoiser, decoder, cycles = ("unet", 1, 16), ("vae.decoder", 1, 16), 6
    in_turns, turned = turns([denoiser, decoder] * cycles, mib)
    in_order, ordered = turns([denoiser] * cycles + [decoder] * cycles, mib)
    for ours, theirs in zip(in_turns[0::2] + in_turns[1::2], in_order):
        np.testing.assert_array_equal(ours, theirs)
    budget, plans = mib * 2**20, [ordered[name].plan for name in ("unet", "vae.decoder")]
    bytes_of = [sum(reports[name].uploaded_bytes for name in ("unet", "vae.decoder")) for reports in (turned, ordered)]
    # While one network runs, the other keeps at most what that run leaves of the budget.
    lost = [max(0, own.resident_bytes - (budget - other.peak_bytes)) for own, other in (plans, plans[::-1])]
    assert bytes_of[0] <= 1.1 * (bytes_of[1] + (cycles - 1) * sum(lost))
    if mib >= 18:  # both stay with the larger workspace
        assert sum(lost) == 0 and bytes_of[0] <= 1.1 * bytes_of[1]


def test_a_network_that_ran_alone_gets_its_weights_back_after_another_one():
    outputs, reports = turns([("unet", 1, 16)] * 3 + [("vae.decoder", 1, 16)] + [("unet", 1, 16)] * 3, 12.3)
    plan = reports["unet"].plan
    assert plan.resident_bytes < reports["unet"].uploaded_bytes < 2 * plan.resident_bytes
    for output in outputs[4:]:
        np.testing.assert_array_equal(output, outputs[0])


def test_a_larger_shape_that_needs_the_room_of_weights_gets_it():
    outputs, _ = evaluations([(1, 8), (2, 24), (1, 8), (2, 24)], 9)
    alone, _ = evaluations([(2, 24)], 61)
    np.testing.assert_array_equal(outputs[1], alone[0])
    np.testing.assert_array_equal(outputs[3], alone[0])


@pytest.mark.parametrize(("share", "together"), [(1.9, 3), (20.0, 1)])
def test_without_options_pictures_go_together_if_layers_are_streamed(references, least, share, together):
    card = least["auto"] * share
    result = make(device=f"simulated:vram={card:.6f},link=2", batch=3)
    report = result.reports["unet"]
    assert report.runs == STEPS * 3 / together
    assert (report.plan.streamed_bytes_per_step > 0) == (together > 1)
    same(result, references[3, 3.0])


def test_workspaces_of_many_shapes_do_not_pile_up_under_a_budget():
    rng = np.random.default_rng(0)
    with sdcpp_py.Pipeline(device=SIMULATED, link_speed=(2e10, 2e9), max_vram=61 / 1024) as pipeline:
        peaks = []
        for count in (1, 40):
            for tokens in range(2, 2 + count):
                context = rng.standard_normal((1, tokens, 96)).astype(np.float32)
                pipeline.evaluate("unet", x=np.zeros((1, 4, 16, 16), np.float32), timesteps=np.array([500.0]), context=context)
            pipeline.evaluate("vae.decoder", x=np.zeros((1, 4, 16, 16), np.float32))
            peaks.append(pipeline.take_memory()["workspace"])
        assert pipeline._reports()["vae.decoder"].uploaded_bytes < 1.5 * 2**20  # its weights were never evicted
    assert peaks[1] < 8 * peaks[0]
