#include "weights/packed/packed_weights.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "weights/packed/formats.h"
#include "weights/scales.h"

namespace sdcpp {
namespace {

constexpr std::string_view weight = ".weight", mark = ".comfy_quant";
constexpr std::string_view nf4_state = ".quant_state.bitsandbytes__nf4", fp4_state = ".quant_state.bitsandbytes__fp4";
constexpr std::string_view other_files = "take the same model in bf16, f16 or f8, or as GGUF (q8_0, q4_K …)";
constexpr DType i8 = from_ggml(GGML_TYPE_I8);

// The text of a U8 tensor; some are filled up behind it.
std::string_view text_of(const TensorInfo& tensor) {
    std::string_view text(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    while (!text.empty() && (text.back() == '\0' || text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
    return text;
}

Json json_of(std::string_view name, std::string_view text) {
    try {
        Json json = Json::parse(text);
        if (json.object()) return json;
    } catch (const Error&) {  // told below
    }
    fail(SDCPP_BAD_FILE, name, " is no JSON object that tells a number format; the file is damaged: download it again");
}

// What marks say, by layers' names.
std::map<std::string, Json> marks_of(std::span<TensorFile* const> files) {
    std::map<std::string, Json> out;
    for (const TensorFile* file : files) {
        for (const std::string& text : file->quantization) {
            const Json json = json_of("_quantization_metadata", text);
            if (const std::string version = json.string_or("format_version", "1.0"); !version.starts_with("1."))
                fail(SDCPP_UNSUPPORTED_MODEL, "_quantization_metadata has the version '", version,
                     "', and 1.0 can be read; ", other_files);
            if (const Json::Object* layers = json["layers"].object())
                for (const auto& [name, facts] : *layers) out.insert_or_assign(name, facts);
        }
        for (const TensorInfo& tensor : file->tensors)
            if (tensor.name.ends_with(mark))
                out.insert_or_assign(tensor.name.substr(0, tensor.name.size() - mark.size()),
                                     json_of(tensor.name, text_of(tensor)));
    }
    return out;
}

}  // namespace

std::string unreadable_format(const TensorFile& file) {
    TensorFile copy;
    copy.quantization = file.quantization;
    for (const TensorInfo& tensor : file.tensors)
        if (tensor.name.ends_with(mark)) copy.tensors.push_back(tensor);
    TensorFile* const files[] = {&copy};
    for (const auto& [name, facts] : marks_of(files)) {
        const std::string format = facts.string_or("format", "");
        if (!packed_format(format)) return format.empty() ? "a format without a name" : format;
    }
    return "";
}

std::set<std::string> attach_packings(std::span<TensorFile* const> files, const Namings& namings) {
    const std::map<std::string, Json> marks = marks_of(files);
    TensorIndex index;
    std::unordered_map<std::string_view, TensorInfo*> plain;  // weights by their names without prefixes; null: several
    for (TensorFile* file : files)
        for (TensorInfo& tensor : file->tensors) {
            index.emplace(tensor.name, &tensor);
            if (!std::string_view(tensor.name).ends_with(weight)) continue;
            const auto [at, first] = plain.emplace(without_prefix(tensor.name, namings), &tensor);
            if (!first) at->second = nullptr;
        }
    std::set<std::string> scaled;
    std::unordered_set<const TensorInfo*> used;
    for (const auto& [name, facts] : marks) {
        const std::string full = name + std::string(weight);
        const auto exact = index.find(full);
        const auto alike = plain.find(without_prefix(full, namings));
        TensorInfo* tensor = exact == index.end() ? nullptr : exact->second;
        if (!tensor && alike != plain.end() && alike->second && dtype_block_bytes(alike->second->type) == 1)
            tensor = alike->second;
        const std::string named = facts.string_or("format", "");
        const PackedFormat* const format = packed_format(named);
        if (!format)
            fail(SDCPP_UNSUPPORTED_MODEL, full, " is quantized as ", named.empty() ? "a format without a name" : named,
                 ", which cannot be read; ", other_files);
        if (!tensor || tensor->packing) continue;  // a mark of a layer that was taken out
        if (!format->packing) {
            scaled.insert(tensor->name);
            continue;
        }
        const PackedLayer layer(*tensor, named, facts, index, used);
        attach(layer, format->packing(layer));
    }
    const Json none;
    for (TensorFile* file : files)
        for (TensorInfo& tensor : file->tensors) {
            if (!std::string_view(tensor.name).ends_with(weight) || tensor.packing || scaled.contains(tensor.name))
                continue;
            for (const auto& [state, format] : {std::pair{nf4_state, "nf4"}, std::pair{fp4_state, "fp4"}})
                if (const auto found = index.find(tensor.name + std::string(state)); found != index.end()) {
                    const Json facts = json_of(found->first, text_of(*found->second));
                    used.insert(found->second);
                    const PackedLayer layer(tensor, format, facts, index, used);
                    attach(layer, bitsandbytes_4(layer));
                }
            if (tensor.packing) continue;
            const std::string stem = tensor.name.substr(0, tensor.name.size() - weight.size());
            if (tensor.type == i8 && index.contains(stem + ".SCB")) {
                const PackedLayer layer(tensor, "int8 of bitsandbytes", none, index, used);
                attach(layer, bitsandbytes_8(layer));
            } else if (tensor.type == DType::u8 && index.contains(stem + ".weight_scale_2")) {
                const PackedLayer layer(tensor, "nvfp4", none, index, used);
                attach(layer, plain_nvfp4(layer));
            }
        }
    for (TensorFile* file : files) {
        std::vector<TensorInfo> kept;
        for (TensorInfo& tensor : file->tensors)
            if (!used.contains(&tensor)) kept.push_back(std::move(tensor));
        file->tensors = std::move(kept);
    }
    return scaled;
}

void require_packings(std::span<TensorFile* const> files) {
    for (const TensorFile* file : files)
        for (const TensorInfo& tensor : file->tensors) {
            if (tensor.name.ends_with(".pre_quant_scale"))
                fail(SDCPP_UNSUPPORTED_MODEL, tensor.name,
                     " belongs to no packed weight, as in packs of int4 and int8 "
                     "with smoothed inputs, which cannot be read; ",
                     other_files);
            if (!tensor.name.ends_with(weight) || tensor.shape.size() != 2 || tensor.count() < 2) continue;
            if (tensor.type != i8 && tensor.type != DType::u8) continue;
            fail(SDCPP_UNSUPPORTED_MODEL, tensor.name, " is quantized as ",
                 tensor.type == i8 ? "int8 of an unknown format" : "packed bytes of an unknown format",
                 ", as nothing in the file tells what its numbers stand for (comfy_quant, _quantization_metadata); "
                 "take a pack with these marks, or ",
                 other_files.substr(5));
        }
}

}  // namespace sdcpp
