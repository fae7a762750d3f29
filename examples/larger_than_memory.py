"""A model in less device memory than its weights take: see the plan first, then run it.

usage: python examples/larger_than_memory.py [MODEL] [MAX_VRAM_GIB]
"""

import sys

import sdcpp_py

model = sys.argv[1] if len(sys.argv) > 1 else None
budget = float(sys.argv[2]) if len(sys.argv) > 2 else 0.006

with sdcpp_py.Pipeline(model, max_vram=budget) as pipeline:
    print(pipeline.plan())
    result = pipeline.generate("a red circle on a white background", seed=1)
    report = result.reports["unet"]
    print(
        f"at most {result.memory['peak'] / 2**20:.1f} MiB held, {report.uploaded_bytes_per_step / 2**20:.1f} MiB uploaded a step,"
    )
    print(f"{report.step_seconds:.3f} s a step, of which {report.stall_seconds / report.runs:.3f} s waiting for uploads")
    sdcpp_py.save(result.images[0], "picture.png")
