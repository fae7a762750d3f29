"""Image diffusion models on your own machine: `Pipeline(...).generate(...)`."""

from sdcpp_py._clone import module_folders

__path__ = module_folders(__path__)  # before any module that needs the engine

from sdcpp_py import errors, sampling
from sdcpp_py.compat import StableDiffusion
from sdcpp_py.images import save
from sdcpp_py.model_info import devices, summarize
from sdcpp_py.pipeline import Pipeline
from sdcpp_py.result import Report, Result, Step
from sdcpp_py.version import __version__

__all__ = [
    "Pipeline",
    "Report",
    "Result",
    "StableDiffusion",
    "Step",
    "__version__",
    "devices",
    "errors",
    "sampling",
    "save",
    "summarize",
]
