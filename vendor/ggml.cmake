# Finds ggml: the Python package libggml-python by default (it is a build requirement, and its entry point puts it on
# CMAKE_PREFIX_PATH), or any other install through -Dggml_ROOT=DIR or CMAKE_PREFIX_PATH. ggml itself is used unchanged.
set(SDCPP_GGML_PIN "0.20")  # minor version the engine is built and tested with; pyproject.toml names the same

# The package keeps its CMake files under lib64, which some systems do not search by default.
set_property(GLOBAL PROPERTY FIND_LIBRARY_USE_LIB64_PATHS TRUE)
find_package(ggml CONFIG QUIET)
if(NOT ggml_FOUND)
  message(FATAL_ERROR "ggml was not found. Run `pip install libggml-python==${SDCPP_GGML_PIN}.*`, "
                      "or point to an install of yours with -Dggml_ROOT=DIR.")
endif()

# The package's targets carry run paths whose $ORIGIN does not survive every generator; ours are set in CMakeLists.txt.
foreach(target ggml::ggml ggml::ggml-base ggml::ggml-cpu)
  if(TARGET ${target})
    set_property(TARGET ${target} PROPERTY INTERFACE_LINK_OPTIONS "")
  endif()
endforeach()
