// A model's files to one GGUF file, in the types that the user wants.
#pragma once

#include <filesystem>
#include <functional>

#include "weights/model_files.h"
#include "weights/type_rules.h"

namespace sdcpp {

// Writes what the networks in `files` use, piece by piece: memory stays small whatever the model's size. `threads`
// convert. The config goes along. `progress(bytes, all bytes)` returns false to stop, which throws SDCPP_CANCELLED.
// Throws SDCPP_BAD_FILE if the file cannot be written.
void convert_model(const ModelFiles& files, const TypeRules& types, const std::filesystem::path& target, int threads,
                   const std::function<bool(uint64_t, uint64_t)>& progress);

}  // namespace sdcpp
