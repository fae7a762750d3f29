// How files name the tensors of a component of a model (a denoiser, a text encoder …): rows and small functions that
// the families hand down. This room applies them and knows none by name.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/tensor_file.h"

namespace sdcpp {

// The tensor names of a file that stand under one prefix, without it.
class FileNames {
  public:
    // `slot`: the folder of a diffusers model that the file lies in; "" if it lies in none.
    explicit FileNames(const TensorFile& file, std::string slot = "");
    // The names under a further prefix.
    FileNames under(std::string_view prefix) const;

    const TensorInfo* find(std::string_view name) const;
    bool has(std::string_view name) const { return find(name) != nullptr; }
    const std::string& slot() const { return slot_; }
    void each(const std::function<void(std::string_view name, const TensorInfo& tensor)>& visit) const;
    // Side `d` of the first tensor whose name ends so; 0 if there is none.
    int64_t side_of_ending(std::string_view ending, size_t d) const;
    // One past the largest number that stands between `before` and `after` at the start of a name.
    int count(std::string_view before, std::string_view after = ".") const;

  private:
    std::shared_ptr<const std::map<std::string_view, const TensorInfo*>> tensors_;
    std::string prefix_, slot_;
};

// A name in a file, without the prefix, to the canonical one, without the component's; "" drops the tensor.
using Renamer = std::function<std::string(const std::string& name)>;

// A tensor that holds several, one behind the other along its outermost side.
struct Fusion {
    std::string_view ending;              // the canonical name's
    std::vector<std::string_view> parts;  // endings in its place
    std::vector<int64_t> shares{};        // shares of the rows; empty: equal ones
};

// Names of layers in the files of adapters, such as LoRAs: every program that trains them has its own.
using LayerAliases = std::function<std::vector<std::string>(const std::string& layer)>;
struct AdapterNaming {
    std::vector<std::string_view> dotted{};  // before a layer's name
    std::vector<std::string_view> joined{};  // before a layer's name whose dots are underscores
    // Other names of layers than the canonical ones, which are without the component's name and without ".weight";
    // `layers` are all of the network's, those that files have joined, too. Null: there are none.
    LayerAliases (*others)(const std::set<std::string>& layers) = nullptr;
};

struct Naming {
    std::string_view name;                     // begins the canonical names, followed by a dot
    std::string_view kind;                     // components of one kind take each other's place, such as "text_encoder"
    std::vector<std::string_view> prefixes;    // in files of several components; kinds may share them
    std::vector<std::string_view> slots{};     // folders of a diffusers model in which it lies
    std::string_view config;                   // the key of its config
    int (*recognises)(const FileNames& file);  // how many facts show that a file is this component's; 0: none
    Renamer (*renamer)(const FileNames& file);  // null: names are canonical
    std::vector<Fusion> fused{};
    // Canonical prefixes of each network: a later file that has one replaces all that stand together.
    std::vector<std::vector<std::string_view>> networks;
    // Metadata of llama.cpp's files as config: endings of keys, after the architecture, and their names in configs.
    std::vector<std::pair<std::string_view, std::string_view>> metadata{};
    AdapterNaming adapters{};
};
using Namings = std::vector<const Naming*>;

// Helpers for renamers.
using Rules = std::vector<std::pair<std::string_view, std::string_view>>;
bool replace_first(std::string& text, std::string_view from, std::string_view to);
// Puts the new text in place of the old one that `text` begins with, by the first rule that fits.
bool replace_start(std::string& text, const Rules& rules);
// The texts of which replace_start() makes `text`.
std::vector<std::string> replaced_back(const std::string& text, const Rules& rules);
// Takes `before`, a number and `after` off the front of `text`: "down_blocks.2.resnets." gives 2.
std::optional<int> take_number(std::string_view& text, std::string_view before, std::string_view after);

}  // namespace sdcpp
