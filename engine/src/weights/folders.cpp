#include "weights/folders.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <tuple>

#include "base/error.h"

namespace sdcpp {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> stems = {"diffusion_pytorch_model", "model", "pytorch_model"};

// Sorts first what is to be taken first.
using Rank = std::tuple<bool, int, bool, std::string>;  // .bin; the variant; an index; the name

// The rank of a file by its name; nothing if it is none that these libraries write, or a shard.
std::optional<Rank> rank_of(const std::string& name) {
    const auto stem = std::find_if(stems.begin(), stems.end(),
                                   [&](std::string_view one) { return name.starts_with(std::string(one) + "."); });
    if (stem == stems.end() || name.find("-of-") != std::string::npos) return std::nullopt;
    // what is left are pieces in any order: safetensors or bin, "index" and "json" together, a variant
    bool bin = false, safe = false, index = false, json = false;
    std::string variant;
    for (size_t at = stem->size(); at < name.size();) {
        const size_t end = std::min(name.find('.', at + 1), name.size());
        const std::string piece = name.substr(at + 1, end - at - 1);
        at = end;
        if (piece == "safetensors") {
            safe = true;
        } else if (piece == "bin") {
            bin = true;
        } else if (piece == "index") {
            index = true;
        } else if (piece == "json") {
            json = true;
        } else if (variant.empty()) {
            variant = piece;
        } else {
            return std::nullopt;
        }
    }
    if (bin == safe || index != json) return std::nullopt;
    const int order = variant.empty() ? 0 : variant == "fp16" ? 1 : variant == "non_ema" ? 3 : 2;
    return Rank{bin, order, index, name};
}

bool holds_weights(const fs::path& path) {
    static constexpr std::array<std::string_view, 6> endings = {".safetensors", ".gguf", ".ckpt",
                                                                ".pt",          ".pth",  ".bin"};
    return std::find(endings.begin(), endings.end(), path.extension().string()) != endings.end();
}

// Whether a path looks like a model's name on a hub: "owner/model".
bool is_repository_name(const fs::path& path) {
    const std::string text = path.generic_string();
    return path.is_relative() && !holds_weights(path) && std::count(text.begin(), text.end(), '/') == 1 &&
           text.front() != '.';
}

std::vector<fs::path> files_in(const fs::path& folder) {
    std::vector<fs::path> out;
    std::error_code problem;
    for (fs::directory_iterator at(folder, problem), end; !problem && at != end; at.increment(problem))
        if (at->is_regular_file(problem)) out.push_back(at->path());
    if (problem) fail(SDCPP_BAD_FILE, folder.string(), ": ", problem.message());
    return out;
}

// The only file of weights in a folder; "" if there are none or several.
fs::path only_file(const std::vector<fs::path>& files) {
    fs::path found;
    for (const fs::path& path : files) {
        if (!holds_weights(path)) continue;
        if (!found.empty()) return {};
        found = path;
    }
    return found;
}

// False for an index whose shards are not there, as a download of one variant leaves them.
bool whole(const fs::path& path) {
    if (path.extension() != ".json") return true;
    const Json json = Json::parse(MappedFile(path).text());
    const Json::Object* shards = json["weight_map"].object();
    return !shards || std::all_of(shards->begin(), shards->end(), [&](const auto& entry) {
        const std::string* shard = entry.second.string();
        return !shard || fs::exists(path.parent_path() / *shard);
    });
}

bool is_slot(const std::string& name, const Namings& namings) {
    return std::any_of(namings.begin(), namings.end(), [&](const Naming* naming) {
        return std::find(naming->slots.begin(), naming->slots.end(), name) != naming->slots.end();
    });
}

}  // namespace

fs::path weights_in(const fs::path& folder) {
    const std::vector<fs::path> files = files_in(folder);
    std::optional<std::pair<Rank, fs::path>> best;
    for (const fs::path& path : files)
        if (const auto rank = rank_of(path.filename().string()); rank && (!best || *rank < best->first) && whole(path))
            best = {*rank, path};
    if (best) return best->second;
    if (const fs::path only = only_file(files); !only.empty()) return only;
    fail(SDCPP_FILE_NOT_FOUND, "no weights (*.safetensors, *.bin) in ", folder.string());
}

std::vector<ModelPath> folder_parts(const fs::path& folder, const Namings& namings) {
    if (!fs::exists(folder / "model_index.json")) {
        const fs::path only = only_file(files_in(folder));
        fail(SDCPP_FILE_NOT_FOUND, folder.string(), " has no model_index.json, which a diffusers model has; ",
             only.empty() ? "give the model's file" : "give its file " + only.string());
    }
    const Json json = Json::parse(MappedFile(folder / "model_index.json").text());
    std::map<std::string, std::string> kinds;  // by slot
    for (const Naming* naming : namings)
        for (const std::string_view slot : naming->slots) kinds.emplace(slot, naming->kind);
    std::vector<ModelPath> parts;
    for (const auto& [slot, kind] : kinds)
        if (const Json::Array* entry = json[slot].array(); entry && entry->size() == 2 && entry->front().string())
            parts.push_back({weights_in(folder / slot), {kind, slot}});
    if (parts.empty())
        fail(SDCPP_UNSUPPORTED_MODEL, folder.string(), " is a model for diffusers' ",
             json.string_or("_class_name", "pipelines"), ", none of whose parts is known");
    return parts;
}

std::vector<ModelPath> resolved(const ModelPath& given, const Namings& namings) {
    if (!fs::is_directory(given.path)) {
        std::error_code problem;
        if (is_repository_name(given.path) && !fs::exists(given.path, problem))
            fail(SDCPP_FILE_NOT_FOUND, "no such file: ", given.path.string(),
                 "; models are opened from this disk: download that one first and give its file or folder");
        return {given};
    }
    if (given.role.part.empty()) return folder_parts(given.path, namings);
    const auto place = [&](const fs::path& folder) {
        fs::path name = folder.filename();
        if (name.empty()) name = folder.parent_path().filename();  // the path ends in a slash
        return ModelPath{weights_in(folder),
                         {given.role.part, is_slot(name.string(), namings) ? name.string() : std::string()}};
    };
    if (!fs::exists(given.path / "model_index.json")) return {place(given.path)};
    std::vector<ModelPath> parts;  // a whole model's, of which one part is wanted
    for (const Naming* naming : namings)
        if (naming->name == given.role.part || naming->kind == given.role.part)
            for (const std::string_view slot : naming->slots)
                if (fs::is_directory(given.path / slot) &&
                    std::none_of(parts.begin(), parts.end(), [&](const auto& one) { return one.role.slot == slot; }))
                    parts.push_back(place(given.path / slot));
    if (parts.empty())
        fail(SDCPP_FILE_NOT_FOUND, "no folder in ", given.path.string(), " is of the kind ", given.role.part);
    return parts;
}

}  // namespace sdcpp
