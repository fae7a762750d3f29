// Folders of models: which of a folder's files holds the weights.
#pragma once

#include <filesystem>
#include <vector>

#include "weights/names.h"

namespace sdcpp {

struct ModelPath {
    std::filesystem::path path;  // a tensor file, an index of shards, or a folder of one or, if `role` is empty, of all
    FileRole role{};
};

// The tensor file or index of shards in the folder of one network, as diffusers and transformers name them: safetensors
// before .bin, plain before a variant such as fp16, and non_ema last; no index whose shards are not there. Another name
// will do if it is the only one.
// Throws SDCPP_FILE_NOT_FOUND.
std::filesystem::path weights_in(const std::filesystem::path& folder);

// The tensor files of a diffusers model, by its model_index.json. Throws SDCPP_FILE_NOT_FOUND, SDCPP_BAD_FILE.
std::vector<ModelPath> folder_parts(const std::filesystem::path& folder, const Namings& namings);

// The file or files that a path stands for.
std::vector<ModelPath> resolved(const ModelPath& given, const Namings& namings);

}  // namespace sdcpp
