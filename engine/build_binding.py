"""Writes the C source of the extension `sdcpp_py._engine._lib` from sdcpp.h. Run by CMake: build_binding.py HEADER OUT."""

import sys
from pathlib import Path

from cffi import FFI

CALLBACKS = """
extern "Python" void sdcpp_py_log(sdcpp_log_level level, const char* message, void* user_data);
extern "Python" int sdcpp_py_step(const sdcpp_step* step, void* user_data);
extern "Python" int sdcpp_py_denoise(const float* x, float sigma, float* out, size_t count, void* user_data);
extern "Python" int sdcpp_py_progress(uint64_t bytes, uint64_t all_bytes, void* user_data);
"""

# Python handles signals between its own instructions; within one call of C none can come out.
WAITING = """
typedef struct {
    volatile int ended, stopped;
} sdcpp_py_turn;
void sdcpp_py_outlast(sdcpp_py_turn* turn, sdcpp_model* model, int32_t* flag);
"""
WAITING_SOURCE = """
#include "sdcpp.h"
#ifdef _WIN32
#include <windows.h>
#define SDCPP_PY_PAUSE() Sleep(5)
#else
#include <time.h>
#define SDCPP_PY_PAUSE() nanosleep(&(struct timespec){0, 5000000}, NULL)
#endif
typedef struct {
    volatile int ended, stopped;
} sdcpp_py_turn;
static void sdcpp_py_outlast(sdcpp_py_turn* turn, sdcpp_model* model, int32_t* flag) {
    turn->stopped = 1;
    if (flag) *(volatile int32_t*)flag = 1;
    while (!turn->ended) {
        sdcpp_cancel(model);
        SDCPP_PY_PAUSE();
    }
}
"""


def main() -> None:
    """Take the declarations between the header's marks and emit the extension's source."""
    header, out = Path(sys.argv[1]), Path(sys.argv[2])
    text = header.read_text(encoding="utf-8")
    begin = text.index("*/", text.index("/* cdef: begin")) + 2
    declarations = text[begin : text.index("/* cdef: end */")]
    ffi = FFI()
    ffi.cdef(declarations + CALLBACKS + WAITING)
    ffi.set_source("sdcpp_py._engine._lib", WAITING_SOURCE, py_limited_api=True)
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    main()
