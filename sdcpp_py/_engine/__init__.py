"""The C border: typed functions, one for each call of `sdcpp.h`. Nothing else in the package uses `ffi`.

Values come in as Python's and go out as Python's; reports are dicts made from the engine's JSON texts. An error that the
engine reports is raised as an exception of `sdcpp_py.errors`.
"""

from sdcpp_py._engine.calls import Callback, error_of
from sdcpp_py._engine.files import components, convert, listing, path_bytes, tensor
from sdcpp_py._engine.interrupts import Cancel, caller
from sdcpp_py._engine.machine import device_speed, devices, ggml_version, physical_cores, version
from sdcpp_py._engine.model import Adapter, Conditioning, Control, IPAdapter, Model, PartFile, Share
from sdcpp_py._engine.options import Options, option_table
from sdcpp_py._engine.planning import plan
from sdcpp_py._engine.samplers import noise, run_sampler, sigmas

__all__ = [
    "Adapter",
    "Callback",
    "Cancel",
    "Conditioning",
    "Control",
    "IPAdapter",
    "Model",
    "Options",
    "PartFile",
    "Share",
    "caller",
    "components",
    "convert",
    "device_speed",
    "devices",
    "error_of",
    "ggml_version",
    "listing",
    "noise",
    "option_table",
    "path_bytes",
    "physical_cores",
    "plan",
    "run_sampler",
    "sigmas",
    "tensor",
    "version",
]
