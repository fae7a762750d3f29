"""Options by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdcpp_py._engine.calls import call, call_json
from sdcpp_py._engine.loading import ffi, lib

_EXACT = 2**53  # whole numbers up to here are exact as floating-point numbers


def option_table() -> list[dict[str, Any]]:
    """The engine's table of options, a dict a row, as sdcpp.h describes it."""
    return list(call_json(lib.sdcpp_option_table))


class Options:
    """Values for the options of one set; those that are None are left out. Raises InvalidArgumentError."""

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        """``kind`` is the set: "model", "generate" or "plan"."""
        out = ffi.new("sdcpp_options**")
        call(lib.sdcpp_options_new, kind.encode(), out)
        self.handle = ffi.gc(out[0], lib.sdcpp_options_free)
        for name, value in values.items():
            if value is not None:
                self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        """Give an option a value: bool, int, float, str, a sequence of numbers or an array of floats."""
        key = name.encode()
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value, np.float32)
            data, shape = ffi.from_buffer("float[]", array), ffi.new("int64_t[]", list(array.shape))
            call(lib.sdcpp_option_set_array, self.handle, key, data, shape, array.ndim)
        elif isinstance(value, str):
            call(lib.sdcpp_option_set_text, self.handle, key, value.encode("utf-8", "surrogateescape"))
        elif isinstance(value, (tuple, list)):
            call(lib.sdcpp_option_set_text, self.handle, key, ",".join(repr(float(one)) for one in value).encode())
        elif isinstance(value, int) and abs(value) > _EXACT:
            call(lib.sdcpp_option_set_text, self.handle, key, str(value).encode())
        else:
            call(lib.sdcpp_option_set_number, self.handle, key, float(value))
