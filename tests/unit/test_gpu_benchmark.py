"""benchmarks/gpu.py on the simulated device and tiny models: stages run to the end, rows are kept, and a restart goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
FACTS = {"case", "card", "driver", "ggml", "version", "device", "model", "network", "dtype", "width", "height", "batch"}
MEMORY = {"engine_peak_bytes", "driver_before_bytes", "driver_peak_bytes", "resident_bytes", "streamed_bytes", "weight_bytes"}
TIMES = {"seconds", "seconds_min", "seconds_max", "predicted_seconds", "bound_seconds", "compute_seconds", "stall_seconds"}
SETTINGS = {"budget_gib", "link_gb_per_s", "policy", "plan_policy", "scale", "steps", "upload_seconds", "uploaded_bytes"}


def run(folder, stages, seconds=60.0):
    command = [sys.executable, str(BENCHMARK), "--device", "simulated", "--scale", "tiny", "--stages", stages]
    command += ["--out", str(folder / "out"), "--models", str(folder / "models"), "--budget-seconds", str(seconds)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(folder, stage):
    return json.loads((folder / "out" / f"{stage}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("gpu")
    run(made, "m0,m3,m7,m9,m12")
    return made


@pytest.mark.parametrize(("stage", "rows"), [("m3", 10), ("m7", 5)])
def test_a_timed_row_says_what_was_measured(folder, stage, rows):
    found = record(folder, stage)
    assert found["complete"] and not found["skipped"] and found["running"] is None and len(found["rows"]) == rows
    for row in found["rows"]:
        assert row.keys() >= (FACTS | MEMORY | TIMES | SETTINGS), row
        assert row["finite"] and row["steps_agree"] and 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
    assert any(row["streamed_bytes"] > 0 for row in found["rows"])
    assert len({row["fingerprint"] for row in found["rows"] if row["batch"] == 1}) == 1


def test_the_other_stages_have_rows_of_their_own(folder):
    memory, *_, link = record(folder, "m0")["rows"]
    assert link["tflops"] > 0 and link["measured_gb_per_s"] > 0 and memory["engine_peak_bytes"] > 0
    first = record(folder, "m9")
    assert first["complete"] and {row["cold"] for row in first["rows"]} == {True, False}
    assert all(row["to_first_step_seconds"] >= row["open_seconds"] > 0 for row in first["rows"])


def test_operations_add_up(folder):
    found = record(folder, "m12")
    assert found["complete"] and {row["model"] for row in found["rows"]} == {"flux", "z-image", "sdxl"}
    assert all(row["seconds"] >= 0 and row["runs"] > 0 for row in found["rows"])


def test_the_summary_compares_rows_with_prediction_bound_and_resident(folder):
    compared = [row for row in record(folder, "m10")["rows"] if row["case"] != "everything"]
    assert {row["stage"] for row in compared} == {"m3", "m7"}
    assert all(row["over_resident"] > 0 for row in compared)
    assert any(row["over_predicted"] and row["over_bound"] for row in compared)


def test_a_complete_stage_is_not_run_again(folder):
    before = record(folder, "m3")
    assert "m3: complete already" in run(folder, "m3")
    assert record(folder, "m3") == before


def test_a_stage_that_was_cut_short_is_continued(folder):
    whole = record(folder, "m7")
    kept = whole["rows"][:2]
    cases = {row["case"]: 1.0 for row in kept}
    cut = whole | {"complete": False, "rows": kept, "cases": cases, "skipped": ["the others"]}
    (folder / "out" / "m7.json").write_text(json.dumps(cut))
    run(folder, "m7")
    again = record(folder, "m7")
    assert again["complete"] and again["rows"][:2] == kept
    assert [row["case"] for row in again["rows"]] == [row["case"] for row in whole["rows"]]


def test_what_there_is_no_time_for_is_named(folder):
    run(folder, "m1", seconds=3)
    found = record(folder, "m1") if (folder / "out" / "m1.json").exists() else {"complete": False, "rows": []}
    assert not found["complete"]
    assert all(row["identical"] for row in found["rows"] if "error" not in row)


def test_a_case_in_which_the_process_died_is_recorded_and_not_tried_again(folder):
    path = folder / "out" / "m8.json"
    case = "sdxl unet bf16 1024x1024 batch 2, resident"
    path.write_text(json.dumps({"stage": "m8", "complete": False, "rows": [], "cases": {}, "skipped": [], "running": case}))
    run(folder, "m8")
    found = record(folder, "m8")
    assert found["complete"] and [row["case"] for row in found["rows"] if "error" in row] == [case]
    assert found["rows"][0]["error"] == "crashed" and len(found["rows"]) == 5
