#include "weights/model_files.h"

#include <algorithm>

#include "base/error.h"

namespace sdcpp {
namespace {

namespace fs = std::filesystem;

// The tensor file of a diffusers component: plain, f16 variant, sharded, or the old torch name.
fs::path component_file(const fs::path& folder) {
    for (const char* stem : {"diffusion_pytorch_model", "model", "pytorch_model"}) {
        for (const char* ending : {".safetensors", ".fp16.safetensors", ".safetensors.index.json", ".bin"}) {
            const fs::path path = folder / (std::string(stem) + ending);
            if (fs::exists(path)) return path;
        }
    }
    fail(SDCPP_FILE_NOT_FOUND, "no weights (*.safetensors) in ", folder.string());
}

}  // namespace

ModelFiles::ModelFiles(const std::vector<ModelPath>& paths) {
    for (const ModelPath& given : paths) {
        if (given.part == Part::any && fs::is_directory(given.path)) {
            add_folder(given.path);
        } else {
            add_file(given.path, given.part);
        }
    }
}

void ModelFiles::add_file(const fs::path& path, Part part) {
    const TensorFile file = open_tensor_file(path);
    for (NamedTensor& named : canonical_tensors(file, part)) tensors_[std::move(named.name)] = std::move(named.tensor);
    files_.insert(files_.end(), file.files.begin(), file.files.end());
    if (format_.empty()) format_ = file.format;
    if (const auto found = file.metadata.find("sdcpp.config"); found != file.metadata.end()) {
        const Json json = Json::parse(found->second);
        if (const Json::Object* members = json.object())
            for (const auto& [key, value] : *members) add_config(key, value);
    } else if (const fs::path beside = path.parent_path() / "config.json"; part == Part::any && fs::exists(beside)) {
        const MappedFile text(beside);
        const Json json = Json::parse(text.text());
        for (const std::string_view key :
             {"unet", "transformer", "vae", "text_encoder", "text_encoder_2", "scheduler", "defaults"})
            if (json[key].object()) add_config(key, json[key]);
    }
}

std::vector<ModelPath> folder_parts(const fs::path& folder) {
    const MappedFile index(folder / "model_index.json");
    const Json json = Json::parse(index.text());
    std::vector<ModelPath> parts;
    for (const auto& [key, part] : {std::pair{"unet", Part::diffusion},
                                    {"transformer", Part::diffusion},
                                    {"vae", Part::vae},
                                    {"text_encoder", Part::text_encoder},
                                    {"text_encoder_2", Part::clip_g}})
        if (json[key].array() && json[key].array()->size() == 2 && (*json[key].array())[0].string())
            parts.push_back({component_file(folder / key), part});
    return parts;
}

void ModelFiles::add_folder(const fs::path& folder) {
    for (const ModelPath& part : folder_parts(folder)) {
        add_file(part.path, part.part);
        const fs::path beside = part.path.parent_path();
        if (fs::exists(beside / "config.json"))
            add_config(beside.filename().string(), Json::parse(MappedFile(beside / "config.json").text()));
    }
    if (const fs::path scheduler = folder / "scheduler" / "scheduler_config.json"; fs::exists(scheduler))
        add_config("scheduler", Json::parse(MappedFile(scheduler).text()));
}

void ModelFiles::add_config(std::string_view key, Json value) {
    Json::Object members = *config_.object();
    members.insert_or_assign(std::string(key), std::move(value));
    config_ = Json(std::move(members));
}

const TensorInfo* ModelFiles::find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

bool ModelFiles::has_prefix(std::string_view prefix) const {
    const auto found = tensors_.lower_bound(prefix);
    return found != tensors_.end() && found->first.starts_with(prefix);
}

const MappedFile& ModelFiles::file_of(std::span<const std::byte> bytes) const {
    for (const auto& file : files_)
        if (bytes.data() >= file->bytes().data() && bytes.data() < file->bytes().data() + file->bytes().size())
            return *file;
    fail(SDCPP_INTERNAL, "a tensor lies in no open file");
}

}  // namespace sdcpp
