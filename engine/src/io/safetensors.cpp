// safetensors: u64 header size, JSON header {name: {dtype, shape, data_offsets}}, data (format of Hugging Face's
// safetensors).
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/stop.h"
#include "io/tensor_file.h"

namespace sdcpp {
namespace {

DType type_of(const std::string& name, const std::string& text) {
    static const std::map<std::string, DType> types = {{"F32", from_ggml(GGML_TYPE_F32)},
                                                       {"F16", from_ggml(GGML_TYPE_F16)},
                                                       {"BF16", from_ggml(GGML_TYPE_BF16)},
                                                       {"F64", from_ggml(GGML_TYPE_F64)},
                                                       {"I64", from_ggml(GGML_TYPE_I64)},
                                                       {"I32", from_ggml(GGML_TYPE_I32)},
                                                       {"I16", from_ggml(GGML_TYPE_I16)},
                                                       {"I8", from_ggml(GGML_TYPE_I8)},
                                                       {"U8", DType::u8},
                                                       {"U64", from_ggml(GGML_TYPE_I64)},
                                                       {"U32", from_ggml(GGML_TYPE_I32)},
                                                       {"U16", from_ggml(GGML_TYPE_I16)},
                                                       {"BOOL", DType::boolean},
                                                       {"F8_E4M3", DType::f8_e4m3},
                                                       {"F8_E5M2", DType::f8_e5m2},
                                                       {"F8_E8M0", DType::u8}};  // factors of mxfp8
    const auto found = types.find(text);
    if (found == types.end()) fail(SDCPP_BAD_FILE, "tensor ", name, " has the unknown type ", text);
    return found->second;
}

int64_t natural(const std::string& name, const Json& json) {
    const int64_t* value = json.integer();
    if (!value || *value < 0) fail(SDCPP_BAD_FILE, "tensor ", name, ": a size or offset is not a whole number");
    return *value;
}

}  // namespace

TensorFile read_safetensors(std::shared_ptr<const MappedFile> file) {
    const auto bytes = file->bytes();
    uint64_t header_size = 0;
    if (bytes.size() < sizeof header_size) fail(SDCPP_BAD_FILE, "too short for a header");
    std::memcpy(&header_size, bytes.data(), sizeof header_size);
    if (header_size > bytes.size() - sizeof header_size)
        fail(SDCPP_BAD_FILE, "the header claims ", header_size, " bytes, the file has ", bytes.size(),
             "; it is truncated: download or copy it again");
    const Json header = Json::parse(file->text().substr(sizeof header_size, header_size));
    const auto data = bytes.subspan(sizeof header_size + header_size);
    const Json::Object* members = header.object();
    if (!members) fail(SDCPP_BAD_FILE, "the header is not a JSON object");

    TensorFile out;
    out.format = "safetensors";
    for (const auto& [name, entry] : *members) {
        stop_point();
        if (name == "__metadata__") {
            if (const Json::Object* pairs = entry.object())
                for (const auto& [key, value] : *pairs)
                    if (const std::string* text = value.string()) {
                        if (key == "_quantization_metadata")
                            out.quantization.push_back(*text);
                        else
                            out.metadata[key] = *text;
                    }
            continue;
        }
        const Json::Array* shape = entry["shape"].array();
        const Json::Array* offsets = entry["data_offsets"].array();
        const std::string* type = entry["dtype"].string();
        if (!shape || !offsets || offsets->size() != 2 || !type)
            fail(SDCPP_BAD_FILE, "tensor ", name, " lacks dtype, shape or data_offsets");
        TensorInfo tensor;
        tensor.name = name;
        tensor.type = type_of(name, *type);
        for (const Json& side : *shape) tensor.shape.push_back(natural(name, side));
        size_t size = 0;
        checked_count(name, tensor.shape, tensor.type, size);
        const auto first = static_cast<uint64_t>(natural(name, (*offsets)[0]));
        const auto last = static_cast<uint64_t>(natural(name, (*offsets)[1]));
        if (first > last || last > data.size())
            fail(SDCPP_BAD_FILE, "tensor ", name, " ends at byte ", last, " of ", data.size(),
                 "; the file is truncated: download or copy it again");
        if (last - first != size)
            fail(SDCPP_BAD_FILE, "tensor ", name, " takes ", last - first, " bytes, its shape and type need ", size);
        tensor.bytes = data.subspan(first, size);
        out.tensors.push_back(std::move(tensor));
    }
    out.files.push_back(std::move(file));
    return out;
}

}  // namespace sdcpp
