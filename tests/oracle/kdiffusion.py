"""k-diffusion's `sampling` module without its package: the package imports training code (torchvision, wandb) that is not needed.

Install it with `pip install --no-deps k-diffusion`.
"""

import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path


@functools.cache
def load_sampling():
    stand_ins = {}
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms"):
            stand_ins[name] = types.ModuleType(name)
            stand_ins[name].functional = types.ModuleType("functional")
    sys.modules.update(stand_ins)
    spec = importlib.util.find_spec("k_diffusion")
    if "k_diffusion" not in sys.modules:
        package = types.ModuleType("k_diffusion")
        package.__path__ = [str(Path(spec.origin).parent)]
        sys.modules["k_diffusion"] = package
    loaded = importlib.import_module("k_diffusion.sampling")
    for name in stand_ins:
        del sys.modules[name]
    return loaded
