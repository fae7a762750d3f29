"""A model in less device memory than its weights take: see the plan first, then run it."""

import argparse

import sdcpp_py

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", nargs="?", help="left out: the embedded model")
parser.add_argument("max_vram", nargs="?", type=float, default=0.006, help="GiB (default: %(default)s)")
given = parser.parse_args()

with sdcpp_py.Pipeline(given.model, max_vram=given.max_vram) as pipeline:
    plan = pipeline.plan()
    print(plan)
    result = pipeline.generate("a red circle on a white background", seed=1)
    report = next(report for report in result.reports.values() if len(report.plan.stages) == len(plan.stages))
    print(
        f"at most {result.memory['peak'] / 2**20:.1f} MiB held, {report.uploaded_bytes_per_step / 2**20:.1f} MiB uploaded a step,"
    )
    print(f"{report.step_seconds:.3f} s a step, of which {report.stall_seconds / report.runs:.3f} s waiting for uploads")
    result.save("larger_than_memory.png")
