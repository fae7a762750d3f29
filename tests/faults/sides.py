"""Every side of every tensor of the tiny models, halved, doubled, one less and one more: opened, and run if that is possible.

usage: python tests/faults/sides.py [--every N] [FAMILY …]

A file that is wrong is told (an error of the package) or runs; nothing else counts as held. Each file is tried in a process that
forks from one with the package loaded, so that one that ends its process is seen. `--every` takes each N-th file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

import sdcpp_py
from sdcpp_py.errors import EngineError, SdcppError

FAMILIES = ("sd1", "sdxl", "z-image", "flux.1", "chroma", "flux.2", "krea-2", "qwen-image", "sd3")
RUN = {"width": 64, "height": 64, "steps": 1, "progress": False, "seed": 1}


def write(folder: Path, family: str) -> Path:
    return tiny.write_folder(folder) if family == "sd1" else tiny.write_family(folder, family)


def weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.safetensors") if path.name != "taesd.safetensors")


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file that `tiny` wrote."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
    out = {}
    for name, row in header.items():
        if name != "__metadata__":
            first, last = row["data_offsets"]
            out[name] = np.frombuffer(raw[8 + size + first : 8 + size + last], kinds[row["dtype"]]).reshape(row["shape"])
    return out


def changes(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each tensor with one side changed."""
    for name, array in tensors.items():
        for d, side in enumerate(array.shape):
            for other in sorted({side // 2, side * 2, side - 1, side + 1} - {0, side}):
                yield name, (*array.shape[:d], other, *array.shape[d + 1 :])


def cases(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    for path in weight_files(folder):
        for name, shape in changes(read(path)):
            yield path, name, shape


def attempt(folder: Path) -> str:
    """What becomes of the model: "told", "runs", or an exception that is not ours."""
    try:
        with sdcpp_py.Pipeline(folder, threads=1) as pipeline:
            pipeline.generate("a", **RUN)
    except EngineError as error:
        return f"internal: {error}"
    except SdcppError:
        return "told"
    except Exception as error:
        return f"foreign: {error!r}"
    return "runs"


def forked(work) -> str:
    """What ``work`` gives in a process of its own, or how that ended."""
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends[0])
        with os.fdopen(ends[1], "w") as out:
            out.write(work())
            out.flush()
        os._exit(0)
    os.close(ends[1])
    with os.fdopen(ends[0]) as source:
        said = source.read()
    _, status = os.waitpid(child, 0)
    return said if os.waitstatus_to_exitcode(status) == 0 else f"ended the process: {os.waitstatus_to_exitcode(status)}"


def sweep(family: str, folder: Path, every: int, first: int = 0) -> tuple[Counter, list[str]]:
    """Counts by outcome, and the cases that did not hold."""
    model = write(folder / family, family)
    kept = {path: path.read_bytes() for path in weight_files(model)}
    tensors = {path: read(path) for path in kept}
    counts: Counter = Counter()
    problems = []
    for path, name, shape in list(cases(model))[first::every]:
        changed = dict(tensors[path])
        changed[name] = np.resize(changed[name], shape)
        tiny.write_safetensors(path, changed)
        said = forked(lambda: attempt(model))
        path.unlink()
        path.write_bytes(kept[path])
        counts[said if said in ("told", "runs") else "not held"] += 1
        if said not in ("told", "runs"):
            problems.append(f"{family} {path.parent.name} {name} as {list(shape)}: {said}")
    return counts, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    bad = []
    for family in given.families:
        folder = Path(tempfile.mkdtemp())
        try:
            counts, problems = sweep(family, folder, given.every)
        finally:
            shutil.rmtree(folder)
        print(f"{family}: {sum(counts.values())} files, {dict(counts)}", flush=True)
        bad += problems
    print(*bad, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
