"""Why no GPU is there to run on, and what to type: for `sdcpp devices`, and for an engine that cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BUILD = "pip install --force-reinstall --no-deps --no-binary libggml-python"
_SOURCES = "'libggml-python>=0.20.2.post1,==0.20.*'"  # older packages have no sources
CUDA_COMMAND = (
    f"{_BUILD} -C cmake.define.GGML_CUDA=ON -C cmake.define.GGML_CUDA_GRAPHS=ON "
    f"-C cmake.define.CMAKE_CUDA_ARCHITECTURES=native {_SOURCES}"
)
VULKAN_COMMAND = f"{_BUILD} -C cmake.define.GGML_VULKAN=ON {_SOURCES}"
CPU_COMMAND = "pip install --force-reinstall --no-deps --only-binary libggml-python 'libggml-python==0.20.*'"

_NO_DEVICE = {
    "CUDA": "`nvidia-smi` must list the card and a CUDA version not below the one ggml was built with, else install or update "
    "NVIDIA's driver; CUDA_VISIBLE_DEVICES, if it is set, must name the card",
    "Vulkan": "`vulkaninfo --summary` must list the card, else install its Vulkan driver; a software driver is used only if it "
    "is named: GGML_VK_VISIBLE_DEVICES=0 sdcpp devices",
}
_LIBRARIES = {
    "libcuda.so": "ggml was built with CUDA, and NVIDIA's driver is missing: install it, until `nvidia-smi` lists the card. "
    f"For the processor alone: {CPU_COMMAND}",
    "libcu": "ggml was built with CUDA, and a library of the CUDA toolkit is not found: name its folder, such as "
    "export LD_LIBRARY_PATH=/usr/local/cuda/lib64",
    "libvulkan.so": "ggml was built with Vulkan, and Vulkan's loader is missing: apt install libvulkan1",
    "libggml": "ggml is missing: pip install 'libggml-python==0.20.*', or restore the ggml that sdcpp_py was built for",
}


def no_gpu(backends: Mapping[str, int], trouble: Sequence[str], *, vulkan_loaded: bool = False, packaged: bool = True) -> str:
    """Why no GPU is listed and what to do, in lines; "" if one is.

    `backends`: how many devices each backend of ggml found, by its name. `trouble`: what they reported as they looked.
    `vulkan_loaded`: ggml's Vulkan library is in the process, which registers itself only if a driver answers. `packaged`:
    ggml is that of the package libggml-python.
    """
    without = {name: count for name, count in backends.items() if name not in ("CPU", "BLAS")}
    if any(without.values()):
        return ""
    if vulkan_loaded:
        without.setdefault("Vulkan", 0)
    if not without and not packaged:
        return (
            "No GPU: this ggml, which is not the package libggml-python, has no backend but the processor's. Build it again:\n"
            "  with -DGGML_CUDA=ON -DGGML_CUDA_GRAPHS=ON for an NVIDIA card, or -DGGML_VULKAN=ON for another one."
        )
    if not without:
        return (
            "No GPU: this ggml has no backend but the processor's, as PyPI's wheel of libggml-python.\n"
            f"With an NVIDIA card, its driver and CUDA's compiler `nvcc`:\n  {CUDA_COMMAND}\n"
            f"With another card, Vulkan's headers and `glslc`:\n  {VULKAN_COMMAND}"
        )
    lines = []
    for name in without:
        reasons = [line.rpartition(": ")[2] for line in trouble if name.lower() in line.lower()]
        lines.append(f"No GPU: {name} is built in but finds no device" + (f" ({'; '.join(reasons)})" if reasons else "") + ".")
        if name in _NO_DEVICE:
            lines.append(f"  {_NO_DEVICE[name]}")
    return "\n".join(lines)


def not_loaded(problem: str) -> str:
    """Advice if the engine cannot be loaded for `problem`, the dynamic linker's message; "" if nothing is known."""
    if "undefined symbol: ggml" in problem:
        return "the ggml that was found is not of the version that the engine was built for: install sdcpp_py again"
    return next((advice for library, advice in _LIBRARIES.items() if problem.startswith(library)), "")
