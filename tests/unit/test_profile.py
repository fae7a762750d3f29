"""Profiles: what was timed adds up, changes no result, and is shown by the command line."""

import numpy as np
import pytest

import sdcpp_py
from sdcpp_py import cli, profile


@pytest.fixture(scope="module")
def profiled():
    with sdcpp_py.Pipeline(profile=True) as made:
        yield made


def evaluate(pipeline):
    rng = np.random.default_rng(1)
    x, context = rng.standard_normal((2, 4, 16, 16), np.float32), rng.standard_normal((2, 77, 96), np.float32)
    return pipeline.evaluate("unet", x=x, timesteps=np.array([10.0, 900.0]), context=context)


def test_rows_add_up_and_results_stay(profiled, embedded):
    np.testing.assert_array_equal(evaluate(profiled), evaluate(embedded))
    once = profiled.take_profile()
    assert {row.network for row in once} == {"unet"} and {"input_blocks.0", "middle_block", "out"} <= {row.stage for row in once}
    assert all(row.runs > 0 and row.seconds > 0 and row.flops > 0 and row.bytes > 0 for row in once)
    assert profiled.take_profile() == []
    evaluate(profiled)
    evaluate(profiled)
    twice = profiled.take_profile()
    assert [(r.stage, r.operation, r.runs, r.flops) for r in twice] == [
        (r.stage, r.operation, 2 * r.runs, 2 * r.flops) for r in once
    ]


def test_streamed_stages_are_recorded_too():
    with sdcpp_py.Pipeline(profile=True, device="simulated:vram=1,link=2", max_vram=0.03, link_speed=(2e10, 2e9)) as streamed:
        evaluate(streamed)
        with sdcpp_py.Pipeline(profile=True) as whole:
            evaluate(whole)
            expected = {row.stage for row in whole.take_profile()}
        assert {row.stage for row in streamed.take_profile()} == expected


def test_no_profile_unless_asked(embedded):
    evaluate(embedded)
    assert embedded.take_profile() == []
    assert profile.table([]) == ""


def test_the_command_line_shows_it(tmp_path, capsys):
    out = tmp_path / "a.png"
    assert cli.main(["generate", "a star", "--steps", "2", "-s", "1", "--profile", "--no-progress", "-o", str(out)]) == 0
    text = capsys.readouterr().err
    assert "GFLOP/s" in text and " others " in text and "together" in text and "unet:" in text and out.exists()
