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

// The config of the one network whose tensors these are; "" where they are of several.
std::string config_key(const std::vector<NamedTensor>& tensors) {
    static const std::vector<std::pair<std::string_view, std::string_view>> keys = {
        {"unet.", "unet"},           {"z_image.", "transformer"}, {"vae.", "vae"},
        {"clip_l.", "text_encoder"}, {"clip_h.", "text_encoder"}, {"clip_g.", "text_encoder_2"},
        {"llm.", "text_encoder"}};
    for (const auto& [prefix, key] : keys)
        if (!tensors.empty() &&
            std::all_of(tensors.begin(), tensors.end(),
                        [prefix = prefix](const NamedTensor& tensor) { return tensor.name.starts_with(prefix); }))
            return std::string(key);
    return "";
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

// The config is the file's own, or a config.json beside it: of the whole model, or of a part as diffusers writes it.
void ModelFiles::add_file(const fs::path& path, Part part) {
    const TensorFile file = open_tensor_file(path);
    std::vector<NamedTensor> named = canonical_tensors(file, part);
    const std::string own_key = config_key(named);
    drop_replaced(named);
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
    if (const auto name = file.metadata.find("general.architecture");
        name != file.metadata.end() && own_key == "text_encoder")
        add_language_config(file, name->second);
    const fs::path beside = path.parent_path() / "config.json";
    if (!fs::exists(beside)) return;
    const MappedFile text(beside);
    const Json json = Json::parse(text.text());
    bool whole = false;
    for (const std::string_view key :
         {"unet", "transformer", "vae", "text_encoder", "text_encoder_2", "scheduler", "defaults"}) {
        if (!json[key].object()) continue;
        add_config(key, json[key]);
        whole = true;
    }
    if (!whole && !own_key.empty() && json.object()) add_config(own_key, json);
}

// A network in a later file takes the place of the whole one, which may have more tensors.
void ModelFiles::drop_replaced(const std::vector<NamedTensor>& by) {
    for (const std::string_view prefix :
         {"unet.", "z_image.", "vae.decoder.", "vae.post_quant_conv.", "vae.encoder.", "vae.quant_conv.", "clip_l.",
          "clip_g.", "clip_h.", "llm.", "taesd.decoder.", "taesd.encoder."})
        if (std::any_of(by.begin(), by.end(),
                        [&](const NamedTensor& tensor) { return tensor.name.starts_with(prefix); }))
            std::erase_if(tensors_, [&](const auto& entry) { return entry.first.starts_with(prefix); });
}

// What llama.cpp keeps as metadata of a language model, under transformers' names.
void ModelFiles::add_language_config(const TensorFile& file, const std::string& architecture) {
    Json::Object members;
    for (const auto& [theirs, ours] : {std::pair{".rope.freq_base", "rope_theta"},
                                       {".attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                                       {".attention.head_count", "num_attention_heads"}}) {
        const auto found = file.metadata.find(architecture + theirs);
        if (found != file.metadata.end()) members.insert_or_assign(ours, Json::parse(found->second));
    }
    if (!members.empty()) add_config("text_encoder", Json(std::move(members)));
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
    for (const ModelPath& part : folder_parts(folder)) add_file(part.path, part.part);
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
