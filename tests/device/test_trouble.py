"""Cancelled, or out of memory: the device's pipeline goes on afterwards, with the same numbers."""

import contextlib
import threading
import time

import numpy as np
import pytest

import sdcpp_py
from sdcpp_py import errors

PICTURE = {"width": 128, "height": 128, "seed": 5, "cfg_scale": 1.0, "progress": False}


@pytest.mark.parametrize("share", [None, 2.0])
def test_cancelling_from_another_thread_ends_the_run_soon(on_device, least_gib, share):
    budget = 0 if share is None else max(0.02, least_gib(None, "embedded", "auto") * share)
    pipeline = on_device(max_vram=budget)
    before = pipeline.generate("a red circle", steps=2, **PICTURE)
    started, told = threading.Event(), []

    def stop():
        started.wait(60)
        told.append(time.perf_counter())
        pipeline.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(errors.CancelledError):
        pipeline.generate("a red circle", steps=900, callback=lambda step: started.set(), **PICTURE)
    assert time.perf_counter() - told[0] < 5
    thread.join()
    after = pipeline.generate("a red circle", steps=2, **PICTURE)
    np.testing.assert_array_equal(after.latents[0], before.latents[0])


def test_more_than_most_devices_can_hold_is_refused_or_done_and_the_pipeline_goes_on(on_device):
    pipeline = on_device(max_vram=0)
    before = pipeline.generate("a red circle", steps=2, **PICTURE)
    with contextlib.suppress(errors.OutOfMemoryError):  # 16384 x 16384 pixels take a hundred GiB or so
        pipeline.decode(np.zeros((4, 2048, 2048), np.float32), vae_tiling=False)
    after = pipeline.generate("a red circle", steps=2, **PICTURE)
    np.testing.assert_array_equal(after.latents[0], before.latents[0])


def test_a_budget_above_what_is_free_does_no_harm(device, on_device):
    free = next((one.free_bytes for one in sdcpp_py.devices() if one.name.lower() == device.partition(":")[0].lower()), 0)
    reference = on_device(max_vram=0).generate("a red circle", steps=2, **PICTURE)
    made = on_device(max_vram=free / 2**30 + 8).generate("a red circle", steps=2, **PICTURE)
    np.testing.assert_array_equal(made.latents[0], reference.latents[0])


def test_pipelines_side_by_side_do_not_disturb_each_other(typed, on_device, denoiser, least_gib):
    model = typed("sdxl", "bf16")
    alone = denoiser(on_device(model, max_vram=0), "sdxl")
    budgets = [least_gib(model, "sdxl", "pipelined") * share for share in (1.1, 1.5, 2.0)]
    pipelines = [on_device(model, max_vram=budget, plan_policy="pipelined") for budget in budgets]
    outputs = [[] for _ in pipelines]

    def run(pipeline, found):
        for _ in range(4):
            found.append(denoiser(pipeline, "sdxl"))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(pipelines, outputs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in outputs:
        assert len(found) == 4
        for output in found:
            np.testing.assert_array_equal(output, alone)


def test_a_closed_pipeline_leaves_room_for_the_next(device):
    for _ in range(3):
        with sdcpp_py.Pipeline(device=device, max_vram=0) as pipeline:
            pipeline.generate("a red circle", steps=1, **PICTURE)
        with pytest.raises(errors.ClosedError):
            pipeline.generate("a red circle", steps=1, **PICTURE)
