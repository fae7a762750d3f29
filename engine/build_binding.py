"""Writes the C source of the extension `sdcpp_py._engine._lib` from sdcpp.h. Run by CMake: build_binding.py HEADER OUT."""

import sys
from pathlib import Path

from cffi import FFI

CALLBACKS = """
extern "Python" void sdcpp_py_log(sdcpp_log_level level, const char* message, void* user_data);
extern "Python" int sdcpp_py_step(int32_t step, int32_t steps, double seconds, const float* latent, void* user_data);
extern "Python" int sdcpp_py_denoise(const float* x, float sigma, float* out, size_t count, void* user_data);
extern "Python" int sdcpp_py_progress(uint64_t bytes, uint64_t all_bytes, void* user_data);
"""


def main() -> None:
    """Take the declarations between the header's marks and emit the extension's source."""
    header, out = Path(sys.argv[1]), Path(sys.argv[2])
    text = header.read_text(encoding="utf-8")
    begin = text.index("*/", text.index("/* cdef: begin")) + 2
    declarations = text[begin : text.index("/* cdef: end */")]
    ffi = FFI()
    ffi.cdef(declarations + CALLBACKS)
    ffi.set_source("sdcpp_py._engine._lib", '#include "sdcpp.h"', py_limited_api=True)
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    main()
