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

# Where the extension looks for ggml's libraries when it is loaded. The Python package lies beside ours in site-packages;
# any other install is found where it was built against.
get_target_property(SDCPP_GGML_LIBRARY ggml::ggml LOCATION)
get_filename_component(SDCPP_GGML_FOLDER "${SDCPP_GGML_LIBRARY}" DIRECTORY)
get_filename_component(ggml_prefix "${SDCPP_GGML_FOLDER}" DIRECTORY)
if(EXISTS "${ggml_prefix}/__init__.py")
  set(SDCPP_GGML_RUN_PATH "$ORIGIN/../../libggml/lib64;$ORIGIN/../../libggml/lib")
  # pip puts the package into another folder for each build. A copy at one place keeps a second build from compiling all again.
  get_target_property(SDCPP_GGML_HEADERS ggml::ggml INTERFACE_INCLUDE_DIRECTORIES)
  set(SDCPP_GGML_COPY "${CMAKE_BINARY_DIR}/ggml_headers")
  file(MAKE_DIRECTORY "${SDCPP_GGML_COPY}")
  file(GLOB earlier RELATIVE "${SDCPP_GGML_COPY}" "${SDCPP_GGML_COPY}/*.h")
  foreach(folder IN LISTS SDCPP_GGML_HEADERS)
    file(GLOB headers "${folder}/*.h")
    foreach(header IN LISTS headers)
      get_filename_component(name "${header}" NAME)
      file(COPY_FILE "${header}" "${SDCPP_GGML_COPY}/${name}" ONLY_IF_DIFFERENT)
      list(REMOVE_ITEM earlier "${name}")
    endforeach()
  endforeach()
  foreach(name IN LISTS earlier)
    file(REMOVE "${SDCPP_GGML_COPY}/${name}")
  endforeach()
  foreach(target ggml::ggml ggml::ggml-base ggml::ggml-cpu)
    if(TARGET ${target})
      set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${SDCPP_GGML_COPY}")
    endif()
  endforeach()
else()
  set(SDCPP_GGML_RUN_PATH "${SDCPP_GGML_FOLDER}")
  # ggml installs its libraries without run paths of their own: only RPATH, unlike RUNPATH, helps them find each other.
  if(UNIX AND NOT APPLE)
    set(SDCPP_GGML_LINK_OPTIONS LINKER:--disable-new-dtags)
  endif()
endif()

# The version of the headers, which the engine compares with that of the library it finds when it runs.
if(NOT ggml_VERSION AND EXISTS "${ggml_DIR}/ggml-config-version.cmake")
  file(STRINGS "${ggml_DIR}/ggml-config-version.cmake" ggml_version_line REGEX "^set\\(PACKAGE_VERSION \"")
  string(REGEX REPLACE ".*\"(.*)\".*" "\\1" ggml_VERSION "${ggml_version_line}")
endif()
message(STATUS "ggml ${ggml_VERSION} in ${SDCPP_GGML_FOLDER}")

# The package's targets carry run paths whose $ORIGIN does not survive every generator; ours are set in CMakeLists.txt.
foreach(target ggml::ggml ggml::ggml-base ggml::ggml-cpu)
  if(TARGET ${target})
    set_property(TARGET ${target} PROPERTY INTERFACE_LINK_OPTIONS "")
  endif()
endforeach()
