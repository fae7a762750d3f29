"""The package's version, as the engine was built with it."""

from sdcpp_py import _engine

__version__ = _engine.version()
ggml_version = _engine.ggml_version()
