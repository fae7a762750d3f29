#include "weights/adapters/adapter_file.h"

#include <algorithm>

#include "base/error.h"

namespace sdcpp {
namespace {

// A name without what wrappers and programs put into it.
std::string plain_name(std::string name) {
    for (const std::string_view tag : {".default.", ".processor.", "._orig_mod.", ".module."})
        while (replace_first(name, tag, ".")) {
        }
    for (const std::string_view tag : {"_orig_mod.", "module."})
        if (name.starts_with(tag)) name.erase(0, tag.size());
    return name;
}

void add_tensor(AdapterLayer& layer, std::string_view ending, const TensorFile& file, const TensorInfo& tensor) {
    if (ending == "on_input") {  // a truth value of any type
        std::vector<std::byte> bytes(tensor.bytes.size());
        file_of(file.files, tensor.bytes)->read(tensor.bytes, bytes.data());
        layer.on_input = std::any_of(bytes.begin(), bytes.end(), [](std::byte one) { return one != std::byte{}; });
        layer.tensors.emplace(ending, Factor());
        return;
    }
    Factor factor(tensor, file_of(file.files, tensor.bytes));
    if (ending == "alpha") {
        factor.require(factor.count() == 1, "one value");
        layer.alpha = static_cast<double>(factor.values().front());
    } else {
        layer.tensors.emplace(ending, std::move(factor));
    }
}

}  // namespace

PeftConfig::PeftConfig(const TensorFile& file, const std::filesystem::path& path) {
    if (const auto found = file.metadata.find("lora_adapter_metadata"); found != file.metadata.end()) {
        json_ = Json::parse(found->second);
        return;
    }
    const std::filesystem::path beside = path.parent_path() / "adapter_config.json";
    if (path.stem() != "adapter_model" || !std::filesystem::exists(beside)) return;
    prefixed_ = false;
    json_ = Json::parse(MappedFile(beside).text());
}

std::string PeftConfig::prefix_of(const std::string& name) const {
    return prefixed_ ? name.substr(0, name.find('.')) + "." : std::string();
}

// A pattern's keys are the ends of layers' names.
double PeftConfig::number(const std::string& name, std::string_view key, std::string_view pattern,
                          double otherwise) const {
    const std::string prefix = prefix_of(name);
    if (const Json::Object* rows = json_[prefix + std::string(pattern)].object())
        for (const auto& [ending, value] : *rows)
            if (double number = 0;
                value.number(number) && (name == ending || name.ends_with("." + ending) ||
                                         (ending.starts_with("^") && name == prefix + ending.substr(1))))
                return number;
    return json_.number_or(prefix + std::string(key), otherwise);
}

std::optional<double> PeftConfig::alpha(const std::string& name) const {
    const double found = number(name, "lora_alpha", "alpha_pattern", 0);
    return found > 0 ? std::optional(found) : std::nullopt;
}

bool PeftConfig::root_of_rank(const std::string& name) const {
    return json_.boolean_or(prefix_of(name) + "use_rslora", false);
}

AdapterFile::AdapterFile(const std::filesystem::path& path, const LayerNames& names)
    : path_(path), file_(open_tensor_file(path)) {
    std::error_code problem;
    written_ = std::filesystem::last_write_time(path_, problem);
    const PeftConfig config(file_, path_);
    for (const TensorInfo& tensor : file_.tensors) {
        const std::string name = plain_name(tensor.name);
        bool found = false;
        for (const AdapterEnding& ending : adapter_endings()) {
            if (!name.ends_with(ending.spelling)) continue;
            const std::string stem = name.substr(0, name.size() - ending.spelling.size());
            const auto number = names.find(stem);
            if (!number) continue;
            AdapterLayer& layer = changes_[*number].layer;
            if (layer.name.empty()) {
                layer.file = path_.filename().string();
                layer.name = stem;
                layer.alpha = config.alpha(stem);
                layer.root_of_rank = config.root_of_rank(stem);
            }
            if (!layer.has(ending.common)) add_tensor(layer, ending.common, file_, tensor);
            keys_[*number].push_back(tensor.name);
            found = true;
            break;
        }
        if (!found) unmatched_.push_back(tensor.name);
    }
    make_changes(names);
}

void AdapterFile::make_changes(const LayerNames& names) {
    const auto& layers = names.layers();
    std::vector<size_t> doubled;
    for (auto& [number, change] : changes_) {
        const AdaptableLayer& layer = layers[number];
        // some files have q, k and v both apart and joined; those that are apart count
        if (!layer.parts.empty() &&
            std::all_of(layer.parts.begin(), layer.parts.end(), [&](size_t part) { return changes_.contains(part); })) {
            doubled.push_back(number);
            continue;
        }
        const std::string kind = adapter_kind(change.layer);
        const bool weight = changes_weight(change.layer) && !layer.weight.empty();
        const bool bias = changes_bias(change.layer) && !layer.bias.empty();
        if (kind.empty() || (!weight && !bias)) continue;
        if (const Factor* shape = change.layer.find("reshape_weight")) {
            std::vector<int64_t> sides;
            for (const float side : shape->values()) sides.push_back(static_cast<int64_t>(side));
            if (sides != layer.weight_shape.sides)
                fail(SDCPP_UNSUPPORTED_MODEL, change.layer.file, ": the layer ", change.layer.name,
                     " takes other inputs with this LoRA, which is not supported yet; take a model that was made for "
                     "them");
        }
        if (weight) change.weight = weight_change(change.layer, layer.weight_shape);
        if (bias) change.bias = bias_change(change.layer, layer.bias_shape);
        if (!change.weight && !change.bias) continue;
        kinds_.insert(kind);
        if (const int64_t rank = adapter_rank(change.layer)) ranks_.insert(rank);
    }
    for (const size_t number : doubled) changes_.erase(number);
    std::erase_if(changes_, [&](const auto& entry) {
        const bool none = !entry.second.weight && !entry.second.bias;
        if (none) unmatched_.insert(unmatched_.end(), keys_[entry.first].begin(), keys_[entry.first].end());
        return none;
    });
    std::sort(unmatched_.begin(), unmatched_.end());
}

bool AdapterFile::current() const {
    std::error_code problem;
    const auto written = std::filesystem::last_write_time(path_, problem);
    return !problem && written == written_ &&
           std::none_of(file_.files.begin(), file_.files.end(), [](const auto& one) { return one->changed(); });
}

AdapterContents adapter_contents(const TensorFile& file) {
    std::map<std::string, AdapterLayer> layers;
    for (const TensorInfo& tensor : file.tensors) {
        const std::string name = plain_name(tensor.name);
        for (const AdapterEnding& ending : adapter_endings()) {
            if (!name.ends_with(ending.spelling)) continue;
            AdapterLayer& layer = layers[name.substr(0, name.size() - ending.spelling.size())];
            if (ending.common != "alpha" && (dtype_is_numeric(tensor.type) || ending.common == "on_input"))
                add_tensor(layer, ending.common, file, tensor);
            break;
        }
    }
    AdapterContents out;
    for (const auto& [name, layer] : layers) {
        const std::string kind = adapter_kind(layer);
        if (kind.empty()) continue;
        ++out.layers;
        out.kinds.insert(kind);
        if (const int64_t rank = adapter_rank(layer)) out.ranks.insert(rank);
    }
    return out;
}

}  // namespace sdcpp
