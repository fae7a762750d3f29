#include "weights/model_files.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/stop.h"
#include "weights/packed/packed_weights.h"
#include "weights/scales.h"

namespace sdcpp {
namespace {

namespace fs = std::filesystem;

// The component that all of these tensors belong to; null if there are several.
const Naming* sole(const std::vector<NamedTensor>& tensors, const Namings& namings) {
    for (const Naming* naming : namings) {
        const std::string prefix = std::string(naming->name) + ".";
        if (!tensors.empty() && std::all_of(tensors.begin(), tensors.end(),
                                            [&](const NamedTensor& tensor) { return tensor.name.starts_with(prefix); }))
            return naming;
    }
    return nullptr;
}

}  // namespace

// All files are looked at before any is used: what one of them shows may explain what is odd about the others.
ModelFiles::ModelFiles(const std::vector<ModelPath>& paths, const Namings& namings, FileCheck check)
    : namings_(namings) {
    std::vector<std::vector<std::pair<TensorFile, ModelPath>>> opened;
    for (const ModelPath& given : paths) {
        opened.emplace_back();
        for (ModelPath& path : resolved(given, namings_)) {
            TensorFile file = open_tensor_file(path.path);
            if (check) check(file, path);
            opened.back().emplace_back(std::move(file), std::move(path));
        }
        std::map<fs::path, std::vector<TensorFile*>> together;  // by folder: the shards of a component
        for (auto& [file, path] : opened.back()) together[path.path.parent_path()].push_back(&file);
        for (const auto& [folder, files] : together) {
            const std::set<std::string> scaled = attach_packings(files, namings_);
            attach_scales(files, namings_);
            require_packings(files);
            require_scales(files, scaled);
        }
    }
    for (size_t i = 0; i < paths.size(); ++i) {
        for (auto& [file, path] : opened[i]) add_file(std::move(file), path);
        const fs::path scheduler = paths[i].path / "scheduler" / "scheduler_config.json";
        if (paths[i].role.part.empty() && fs::exists(scheduler))
            add_config("scheduler", Json::parse(MappedFile(scheduler).text()));
        const fs::path index = paths[i].path / "model_index.json";
        if (paths[i].role.part.empty() && fs::exists(index))
            add_config("pipeline", Json::parse(MappedFile(index).text()));
    }
}

// The config is the file's own, or a config.json in its folder. diffusers writes one for a part, others for a model.
void ModelFiles::add_file(TensorFile file, const ModelPath& given) {
    std::vector<NamedTensor> named = canonical_tensors(file, given.role, namings_);
    std::set<std::string> known;
    for (const NamedTensor& one : named) known.insert(one.tensor.name);
    if (given.role.part.empty())  // else a part was asked for, and the rest of the file was not
        for (const TensorInfo& tensor : file.tensors)
            if (!known.contains(tensor.name)) nameless_.push_back(tensor.name);
    const Naming* own = sole(named, namings_);
    drop_replaced(named);
    stop_point();
    for (NamedTensor& one : named) tensors_[std::move(one.name)] = std::move(one.tensor);
    files_.insert(files_.end(), file.files.begin(), file.files.end());
    if (format_.empty()) format_ = file.format;
    if (const auto found = file.metadata.find("sdcpp.config"); found != file.metadata.end()) {
        const Json json = Json::parse(found->second);
        if (const Json::Object* members = json.object())
            for (const auto& [key, value] : *members) add_config(key, value);
        return;
    }
    if (const auto kind = file.metadata.find("modelspec.prediction_type");
        kind != file.metadata.end() && kind->second == "v")
        add_config("scheduler", Json(Json::Object{{"prediction_type", Json(std::string("v_prediction"))}}));
    if (own) add_metadata_config(file, *own);
    const fs::path beside = given.path.parent_path() / "config.json";
    if (!fs::exists(beside)) return;
    const MappedFile text(beside);
    const Json json = Json::parse(text.text());
    std::vector<std::string_view> keys = {"scheduler", "defaults"};
    for (const Naming* naming : namings_) keys.push_back(naming->config);
    bool whole = false;
    for (const std::string_view key : keys) {
        if (!json[key].object()) continue;
        add_config(key, json[key]);
        whole = true;
    }
    if (!whole && own && json.object()) add_config(own->config, json);
}

// A network in a later file takes the place of the whole one, which may have more tensors.
void ModelFiles::drop_replaced(const std::vector<NamedTensor>& by) {
    for (const Naming* naming : namings_)
        for (const std::vector<std::string_view>& network : naming->networks) {
            const auto belongs = [&](const std::string& name) {
                return std::any_of(network.begin(), network.end(),
                                   [&](std::string_view prefix) { return name.starts_with(prefix); });
            };
            if (std::any_of(by.begin(), by.end(), [&](const NamedTensor& tensor) { return belongs(tensor.name); }))
                std::erase_if(tensors_, [&](const auto& entry) { return belongs(entry.first); });
        }
}

void ModelFiles::add_metadata_config(const TensorFile& file, const Naming& naming) {
    const auto architecture = file.metadata.find("general.architecture");
    if (architecture == file.metadata.end()) return;
    Json::Object members;
    for (const auto& [metadata_key, config_key] : naming.metadata) {
        const auto found = file.metadata.find(architecture->second + std::string(metadata_key));
        if (found != file.metadata.end()) members.insert_or_assign(std::string(config_key), Json::parse(found->second));
    }
    if (!members.empty()) add_config(naming.config, Json(std::move(members)));
}

void ModelFiles::add_config(std::string_view key, Json value) {
    Json::Object members = *config_.object();
    members.insert_or_assign(std::string(key), std::move(value));
    config_ = Json(std::move(members));
}

void ModelFiles::borrow(const ModelFiles& other, std::string_view from, std::string_view to, bool differences) {
    for (auto at = other.tensors_.lower_bound(from); at != other.tensors_.end() && at->first.starts_with(from); ++at) {
        std::string name = std::string(to) + at->first.substr(from.size());
        const auto own = tensors_.find(name);
        if (own == tensors_.end()) {
            tensors_.emplace(std::move(name), at->second);
        } else if (differences) {
            tensors_.insert_or_assign("difference." + name, own->second);
            own->second = at->second;
        }
    }
    files_.insert(files_.end(), other.files_.begin(), other.files_.end());
}

const TensorInfo* ModelFiles::find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

bool ModelFiles::has_prefix(std::string_view prefix) const {
    const auto found = tensors_.lower_bound(prefix);
    return found != tensors_.end() && found->first.starts_with(prefix);
}

const MappedFile& ModelFiles::file_of(std::span<const std::byte> bytes) const { return *sdcpp::file_of(files_, bytes); }

}  // namespace sdcpp
