"""`sdcpp plan`: families without a file, devices that are not here, pictures."""

import json
import types

import pytest
import tiny
from PIL import Image

import sdcpp_py
from sdcpp_py import cli, errors, families
from sdcpp_py.plan import planner

GIB = 2**30


def run(capsys, *arguments):
    status = cli.main(["plan", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("family", "parameters"),
    [("sd1", 0.86), ("sdxl", 2.57), ("z-image", 6.15), ("flux.1", 11.9), ("qwen-image", 20.43), ("wan-14b", 14.29)],
)
def test_families_have_the_published_sizes(family, parameters):
    stages = families.stages(family, wtype="bf16")
    assert sum(stage.param_bytes for stage in stages) == pytest.approx(parameters * 2e9, rel=0.01)
    if family in ("sd1", "sdxl"):
        return  # whose convolutions are not quantized
    assert sum(stage.param_bytes for stage in families.stages(family, wtype="q8_0")) == pytest.approx(
        parameters * 1e9 * 34 / 32, rel=0.01
    )


@pytest.mark.parametrize(("family", "size"), [("sd1", (512, 512)), ("sdxl", (1024, 1024)), ("wan-14b", (1280, 720))])
def test_a_family_is_planned_at_its_own_size(capsys, family, size):
    status, out, _ = run(capsys, "--family", family, "--device-profile", "rtx3060")
    assert status == 0 and out.startswith(f"{family} at {size[0]}x{size[1]} on ")
    assert families.stages(family) == families.stages(family, width=size[0], height=size[1])


def test_options_without_a_use_are_told(capsys):
    for flag in (["--matmul-precision", "bf16"], ["--no-blas"], ["--threads", "1"]):
        status, _, problems = run(capsys, "--device-profile", "rtx3060", *flag)
        assert status == 1 and f"{flag[0]} is about this machine" in problems
    status, _, problems = run(capsys, "--vae-tile-size", "16")
    assert status == 0 and "--vae-tiling decodes in tiles" in problems
    for more in (["--vae-tiling"], ["-W", "1024", "-H", "1024"]):
        status, _, problems = run(capsys, "--vae-tile-size", "16", *more)
        assert (status, problems) == (0, "")


def test_families_keep_the_names_that_they_had():
    for old, new in (("sd15", "sd1"), ("flux", "flux.1")):
        assert families.is_guided(old) == families.is_guided(new)
        assert families.stages(old, width=512, height=512) == families.stages(new, width=512, height=512)


def test_the_published_workloads():
    """SDXL: one segment, all resident, capped or not. Z-Image: two segments and nothing resident; capped, 9 to 11 and some."""
    sdxl = families.stages("sdxl", width=1152, height=896)
    z_image = families.stages("z-image", width=1024, height=688)
    for policy in ("full", "capped"):
        found = planner.plan(sdxl, budget_bytes=int(10.6 * GIB), policy=policy, microbatches=2)
        assert len(found.segments) == 1 and found.streamed_bytes_per_step == 0
    budget = int(7.0 * GIB)
    before, after = (planner.plan(z_image, budget_bytes=budget, policy=policy, microbatches=2) for policy in ("full", "capped"))
    assert len(before.segments) == 2 and before.resident_bytes == 0
    assert 9 <= len(after.segments) <= 11 and 3e9 < after.resident_bytes < 4e9


def test_a_family_on_a_profile(capsys, tmp_path):
    status, out, _ = run(
        capsys, "--family", "z-image", "--wtype", "bf16", "--device-profile", "rtx3060", "-W", "1024", "-H", "688", "-v"
    )
    assert status == 0 and "policy pipelined" in out and "capped" in out
    assert out.startswith("z-image at 1024x688 on rtx3060 (12 GiB, 22 GB/s, 19 TFLOP/s)\nfits: all 11.47 GiB of weights stay, ")
    picture = tmp_path / "plan.png"
    status, out, _ = run(capsys, "--family", "flux", "--vram", "11", "--link-gbs", "3", "--json", "--plot", str(picture))
    assert status == 0 and json.loads(out)["auto"]["streamed_bytes_per_step"] > 0
    assert Image.open(picture).width >= 1000


def test_a_file_and_a_curve(capsys, tmp_path):
    picture = tmp_path / "curve.png"
    status, out, _ = run(capsys, "--curve", "--plot", str(picture), "--link-gbs", "0.1", "--tflops", "0.1")
    assert status == 0 and "knee: from" in out and picture.exists()
    status, out, _ = run(capsys, "--max-vram", "0.01", "--device-profile", "cpu-nvme")
    assert status == 0 and "\nstreams: of " in out and "\nwith 2 GiB more: " in out and "nothing streamed" in out


def test_a_plan_is_for_this_machine_and_the_one_that_generate_follows(capsys, tmp_path):
    status, out, _ = run(capsys, "--device", "simulated:vram=0.008,link=2", "--json")
    assert status == 0
    with sdcpp_py.Pipeline(device="simulated:vram=0.008,link=2", whole_process=True) as pipeline:
        result = pipeline.generate("a red circle", steps=1)
    ran = result.reports["unet"].plan
    planned = json.loads(out)["auto"]
    assert ran.streamed_bytes_per_step == planned["streamed_bytes_per_step"] > 0
    assert ran.resident_bytes == planned["resident_bytes"]
    status, out, _ = run(capsys)
    assert (
        status == 0
        and out.startswith("unet of the embedded model at 128x128 on CPU (")
        and "fits: all " in out
        and "a step takes about" in out
    )


def test_every_network_of_a_run_is_planned(capsys):
    """A budget that is too small for any of them is refused, with one that is enough for all."""
    device = ["--device", "simulated:vram=1,link=2"]
    status, out, _ = run(capsys, *device, "--max-vram", "0.012")
    assert status == 0 and "\nfits: " in out and "\nvae.decoder: " in out
    status, _, err = run(capsys, *device, "--max-vram", "0.001")
    enough = err.split("--max-vram ")[1].split(" ")[0]
    assert status == 1
    status, out, _ = run(capsys, *device, "--max-vram", enough)
    assert status == 0 and "clip_l: " in out
    with sdcpp_py.Pipeline(device=device[1], max_vram=float(enough)) as pipeline:
        pipeline.generate("a red circle", steps=1)
        roles = ["clip_l", "unet", "vae.decoder"]
        assert list(pipeline.plans()) == roles
        assert list(pipeline.plans("a", init_image=True, width=64, height=64)) == [*roles[:2], "vae.decoder", "vae.encoder"]
    with sdcpp_py.Pipeline(device=device[1], max_vram=0.001) as pipeline, pytest.raises(errors.OverBudgetError) as told:
        pipeline.plans()
    assert 0 < told.value.least_bytes <= float(enough) * GIB


def test_a_model_given_by_its_parts_is_planned(tmp_path, capsys):
    folder = tiny.write_family(tmp_path, "z-image")
    parts = ["--diffusion-model", folder / "transformer" / "diffusion_pytorch_model.safetensors"]
    parts += ["--vae", folder / "vae" / "diffusion_pytorch_model.safetensors"]
    parts += ["--llm", folder / "text_encoder" / "model.safetensors"]
    for network in ("z_image", "llm", "vae.decoder"):
        size = ["-W", "64", "-H", "64", "--cfg-scale", "1"]
        status, out, _ = run(capsys, *map(str, parts), "--network", network, *size, "--json")
        assert status == 0 and json.loads(out)["auto"]["stages"]
    assert run(capsys, *map(str, parts), "--family", "flux")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--family", "flx"], "flux"),
        (["--family", "flux", "--wtype", "q9"], "q8_0"),
        (["--family", "flux", "-W", "1001"], "width"),
        (["--family", "flux", "model.safetensors"], "not both"),
        (["--device-profile", "rtx"], "rtx3060"),
        (["--max-vram", "much"], "--max-vram"),
        (["--max-vram", "0.0001"], "(GiB) is enough"),
        (["--link-gbs", "-1"], "link_gbs"),
        (["--plot", "plan.xyz"], ".png"),
        (["--curve", "--max-vram", "1"], "leave --max-vram out"),
        (["--family", "flux", "--network", "vae.decoder"], "--network needs a model file"),
        (["--device", "CPU", "--vram", "8"], "not both"),
        (["--device", "GPU7"], "GPU7"),
        (["--device-profile", "rtx3060", "--max-vram", "CUDA0=8"], "one number"),
        (["--device-profile", "rtx3060", "-t", "2"], "--threads"),
        (["--family", "flux", "--stream-layers"], "--stream-layers needs a model file"),
    ],
)
def test_errors_are_printed(arguments, says, capsys):
    status, _, err = run(capsys, *arguments)
    assert status == 1 and says in err and "Traceback" not in err


def test_the_knee_is_the_smallest_budget_that_is_nearly_as_fast_as_any():
    seconds = {1.0: 2.0, 2.0: 1.9, 3.0: 1.06, 4.0: 1.05, 5.0: 1.0, 6.0: 1.0}
    points = [(budget, types.SimpleNamespace(predicted_step_seconds=time)) for budget, time in seconds.items()]
    assert cli.plan.knee(points) == 4.0
    assert cli.plan.knee(points[:2]) == 2.0


def test_unknown_names_in_python():
    with pytest.raises(errors.InvalidArgumentError, match="z-image"):
        families.stages("zimage")
    with pytest.raises(errors.InvalidArgumentError):
        families.stages("flux", tflops=0)
