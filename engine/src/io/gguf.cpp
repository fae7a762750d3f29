// GGUF versions 2 and 3: magic, version, counts, key-value pairs, tensor infos, aligned data (format of the ggml
// project).
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/stop.h"
#include "io/tensor_file.h"

namespace sdcpp {
namespace {

enum class Kind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <typename T>
    T take() {
        T value{};
        std::memcpy(&value, skip(sizeof(T)).data(), sizeof(T));
        return value;
    }
    std::string string() {
        const auto size = take<uint64_t>();
        if (size > bytes_.size() - at_) fail(SDCPP_BAD_FILE, "a string runs past the end of the file");
        const auto text = skip(static_cast<size_t>(size));
        return {reinterpret_cast<const char*>(text.data()), text.size()};
    }
    std::span<const std::byte> skip(size_t size) {
        if (size > bytes_.size() - at_)
            fail(SDCPP_BAD_FILE, "the header runs past the end of the file; it is truncated");
        at_ += size;
        return bytes_.subspan(at_ - size, size);
    }
    size_t at() const { return at_; }

  private:
    std::span<const std::byte> bytes_;
    size_t at_ = 0;
};

// A value as text; arrays as their items with commas between (items past the first 64 are only skipped).
std::string value(Reader& in, Kind kind, int depth = 0) {
    switch (kind) {
        case Kind::u8:
            return std::to_string(in.take<uint8_t>());
        case Kind::i8:
            return std::to_string(in.take<int8_t>());
        case Kind::u16:
            return std::to_string(in.take<uint16_t>());
        case Kind::i16:
            return std::to_string(in.take<int16_t>());
        case Kind::u32:
            return std::to_string(in.take<uint32_t>());
        case Kind::i32:
            return std::to_string(in.take<int32_t>());
        case Kind::f32:
            return std::to_string(in.take<float>());
        case Kind::boolean:
            return in.take<uint8_t>() ? "true" : "false";
        case Kind::string:
            return in.string();
        case Kind::u64:
            return std::to_string(in.take<uint64_t>());
        case Kind::i64:
            return std::to_string(in.take<int64_t>());
        case Kind::f64:
            return std::to_string(in.take<double>());
        case Kind::array:
            break;
    }
    if (kind != Kind::array || depth > 2) fail(SDCPP_BAD_FILE, "a key has a value of unknown kind");
    const auto item = static_cast<Kind>(in.take<uint32_t>());
    const auto count = in.take<uint64_t>();
    std::string text;
    for (uint64_t i = 0; i < count; ++i) {
        const std::string one = value(in, item, depth + 1);
        if (i < 64) text += (i ? "," : "") + one;
    }
    return text;
}

std::vector<int64_t> sides_of(const std::string& list) {
    std::vector<int64_t> sides;
    std::istringstream in(list);
    for (std::string item; std::getline(in, item, ',');) sides.push_back(std::atoll(item.c_str()));
    return sides;
}

}  // namespace

TensorFile read_gguf(std::shared_ptr<const MappedFile> file) {
    Reader in(file->bytes());
    in.skip(4);
    const auto version = in.take<uint32_t>();
    if (version != 2 && version != 3) fail(SDCPP_BAD_FILE, "GGUF version ", version, "; versions 2 and 3 can be read");
    const auto tensor_count = in.take<uint64_t>();
    const auto pair_count = in.take<uint64_t>();

    TensorFile out;
    out.format = "gguf";
    uint64_t alignment = 32;
    for (uint64_t i = 0; i < pair_count; ++i) {
        const std::string key = in.string();
        out.metadata[key] = value(in, static_cast<Kind>(in.take<uint32_t>()));
        if (key == "general.alignment") alignment = std::strtoull(out.metadata[key].c_str(), nullptr, 10);
    }
    if (alignment == 0 || alignment > 1 << 20) fail(SDCPP_BAD_FILE, "general.alignment is ", alignment);

    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensor_count; ++i) {
        stop_point();
        TensorInfo tensor;
        tensor.name = in.string();
        const auto dimensions = in.take<uint32_t>();
        if (dimensions > max_dimensions)
            fail(SDCPP_BAD_FILE, "tensor ", tensor.name, " has ", dimensions, " dimensions");
        tensor.shape.resize(dimensions);
        for (uint32_t d = dimensions; d-- > 0;) {  // GGUF writes the innermost side first
            const auto side = in.take<uint64_t>();
            if (side > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
                fail(SDCPP_BAD_FILE, "tensor ", tensor.name, " is larger than any file");
            tensor.shape[d] = static_cast<int64_t>(side);
        }
        const auto type = in.take<uint32_t>();
        if (type >= GGML_TYPE_COUNT || ggml_type_size(static_cast<ggml_type>(type)) == 0)
            fail(SDCPP_BAD_FILE, "tensor ", tensor.name, " has the unknown type ", type);
        tensor.type = from_ggml(static_cast<ggml_type>(type));
        offsets.push_back(in.take<uint64_t>());
        out.tensors.push_back(std::move(tensor));
    }

    const auto bytes = file->bytes();
    const size_t start = (in.at() + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < out.tensors.size(); ++i) {
        TensorInfo& tensor = out.tensors[i];
        size_t size = 0;
        const int64_t count = checked_count(tensor.name, tensor.shape, tensor.type, size);
        if (start > bytes.size() || offsets[i] > bytes.size() - start || size > bytes.size() - start - offsets[i])
            fail(SDCPP_BAD_FILE, "tensor ", tensor.name, " runs past the end of the file; it is truncated");
        tensor.bytes = bytes.subspan(start + offsets[i], size);
        // ComfyUI's converter flattens some tensors and keeps the true shape in the metadata.
        if (const auto shape = out.metadata.find("comfy.gguf.orig_shape." + tensor.name); shape != out.metadata.end()) {
            std::vector<int64_t> sides = sides_of(shape->second);
            size_t same = 0;
            if (checked_count(tensor.name, sides, from_ggml(GGML_TYPE_I8), same) == count)
                tensor.shape = std::move(sides);
        }
    }
    out.files.push_back(std::move(file));
    check_names(out);
    return out;
}

}  // namespace sdcpp
