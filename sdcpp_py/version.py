"""The package's version, as the engine was built with it."""

from sdcpp_py import _binding
from sdcpp_py._engine import lib

__version__ = _binding.text(lib.sdcpp_version())
ggml_version = _binding.text(lib.sdcpp_ggml_version())
