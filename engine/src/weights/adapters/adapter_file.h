// An adapter's file, its tensors matched with a model's layers.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "weights/adapters/layer_names.h"

namespace sdcpp {

// Numbers that files have in their metadata instead of tensors, as the library PEFT writes them.
class PeftConfig {
  public:
    // Of a file's metadata, or of an adapter_config.json beside it.
    PeftConfig(const TensorFile& file, const std::filesystem::path& path);
    // A layer's alpha if the file has one; `name` as in the file.
    std::optional<double> alpha(const std::string& name) const;
    bool root_of_rank(const std::string& name) const;

  private:
    double number(const std::string& name, std::string_view key, std::string_view pattern, double otherwise) const;
    std::string prefix_of(const std::string& name) const;

    Json json_{Json::Object{}};
    bool prefixed_ = true;  // keys begin with a component's name
};

class AdapterFile {
  public:
    // Opens the file and matches it. Throws SDCPP_FILE_NOT_FOUND, SDCPP_BAD_FILE.
    AdapterFile(const std::filesystem::path& path, const LayerNames& names);

    const std::filesystem::path& path() const { return path_; }
    const TensorFile& tensors() const { return file_; }
    // Whether its path holds the same file still.
    bool current() const;

    // What it has for each layer, by the layer's number.
    struct Change {
        AdapterLayer layer;
        AdapterPtr weight, bias;  // null: none
    };
    const std::map<size_t, Change>& changes() const { return changes_; }
    const std::vector<std::string>& unmatched() const { return unmatched_; }
    size_t matched() const { return file_.tensors.size() - unmatched_.size(); }

    // Kinds of the changes, for people, and their ranks, without 0.
    const std::set<std::string>& kinds() const { return kinds_; }
    const std::set<int64_t>& ranks() const { return ranks_; }

  private:
    void make_changes(const LayerNames& names);

    std::filesystem::path path_;
    std::filesystem::file_time_type written_;  // when it was opened
    TensorFile file_;
    std::map<size_t, Change> changes_;
    std::map<size_t, std::vector<std::string>> keys_;  // by layer
    std::vector<std::string> unmatched_;
    std::set<std::string> kinds_;
    std::set<int64_t> ranks_;
};

// A file's contents without a model: kinds and ranks of what its tensors are by the endings of their names.
struct AdapterContents {
    std::set<std::string> kinds;
    std::set<int64_t> ranks;
    size_t layers = 0;
};
AdapterContents adapter_contents(const TensorFile& file);

}  // namespace sdcpp
