// The files of one model together: each tensor's file, and facts that tensors do not show (the config).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/tensor_file.h"
#include "weights/folders.h"
#include "weights/names.h"

namespace sdcpp {

// Looks at a file before anything is made of it; throws if it is one that cannot be used.
using FileCheck = void (*)(const TensorFile& file, const ModelPath& path);

// Tensors under canonical names; a later file's tensors take the place of an earlier one's.
class ModelFiles {
  public:
    ModelFiles(const std::vector<ModelPath>& paths, const Namings& namings, FileCheck check = nullptr);

    const TensorInfo* find(std::string_view name) const;
    bool has_prefix(std::string_view prefix) const;
    const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
    const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }
    const std::string& format() const { return format_; }
    // Names of tensors in the files that got no canonical one.
    const std::vector<std::string>& nameless() const { return nameless_; }
    // Takes another model's tensors whose names begin with `from`, under names that begin with `to`, with their files.
    // A tensor that is here already stays or, if those here are differences, goes under "difference." and its name.
    void borrow(const ModelFiles& other, std::string_view from, std::string_view to, bool differences);
    // The file in which a tensor's bytes lie.
    const MappedFile& file_of(std::span<const std::byte> bytes) const;

    // Objects with the keys of diffusers' config files, one under each component's name for it, "scheduler", "pipeline"
    // (model_index.json), and "defaults" for generation options; from a diffusers folder, the metadata key
    // "sdcpp.config", or a config.json in a file's folder.
    const Json& config() const { return config_; }

  private:
    void add_file(TensorFile file, const ModelPath& given);
    void drop_replaced(const std::vector<NamedTensor>& by);
    void add_metadata_config(const TensorFile& file, const Naming& naming);
    void add_config(std::string_view key, Json value);

    Namings namings_;
    std::map<std::string, TensorInfo, std::less<>> tensors_;
    std::vector<std::shared_ptr<const MappedFile>> files_;
    std::vector<std::string> nameless_;
    std::string format_;
    Json config_{Json::Object{}};
};

}  // namespace sdcpp
