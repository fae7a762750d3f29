"""Image diffusion models on your own machine: `Pipeline(...).generate(...)`."""

from sdcpp_py._clone import module_folders

__path__ = module_folders(__path__)  # before any module that needs the engine

from sdcpp_py import control, errors, ip_adapter, metadata, sampling, wildcards
from sdcpp_py._compat import (
    GGML_TYPE_MAP,
    LORA_APPLY_MODE_MAP,
    PREDICTION_MAP,
    PREVIEW_MAP,
    RNG_TYPE_MAP,
    SAMPLE_METHOD_MAP,
    SCHEDULER_MAP,
    SD_CACHE_MODE_MAP,
    SD_HIRES_UPSCALER_MAP,
    StableDiffusion,
)
from sdcpp_py._conditioning import Conditioning
from sdcpp_py._convert import convert
from sdcpp_py._images import save
from sdcpp_py._model_info import devices, summarize
from sdcpp_py._pool import PipelinePool
from sdcpp_py._result import Report, Result, Step
from sdcpp_py._version import __version__
from sdcpp_py.pipeline import Pipeline

__all__ = [
    "GGML_TYPE_MAP",
    "LORA_APPLY_MODE_MAP",
    "PREDICTION_MAP",
    "PREVIEW_MAP",
    "RNG_TYPE_MAP",
    "SAMPLE_METHOD_MAP",
    "SCHEDULER_MAP",
    "SD_CACHE_MODE_MAP",
    "SD_HIRES_UPSCALER_MAP",
    "Conditioning",
    "Pipeline",
    "PipelinePool",
    "Report",
    "Result",
    "StableDiffusion",
    "Step",
    "__version__",
    "control",
    "convert",
    "devices",
    "errors",
    "ip_adapter",
    "metadata",
    "sampling",
    "save",
    "summarize",
    "wildcards",
]
