// PyTorch's zip checkpoints: a pickle, and an entry for the values of each storage.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "io/pickle.h"
#include "io/tensor_file.h"

namespace sdcpp {
namespace {

using Bytes = std::span<const std::byte>;

template <typename T>
T load(Bytes bytes, size_t at) {
    if (at > bytes.size() || bytes.size() - at < sizeof(T))
        fail(SDCPP_BAD_FILE, "a record runs past the end; the file is truncated");
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

Bytes part(Bytes bytes, uint64_t at, uint64_t size) {
    if (at > bytes.size() || size > bytes.size() - at)
        fail(SDCPP_BAD_FILE, "a record runs past the end; the file is truncated");
    return bytes.subspan(at, size);
}

std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// The entries of a zip's central directory, all of which must be stored without compression.
std::map<std::string, Bytes> zip_entries(Bytes file) {
    constexpr uint32_t end_mark = 0x06054b50, end64_mark = 0x06064b50, locator_mark = 0x07064b50,
                       entry_mark = 0x02014b50;
    if (file.size() < 22) fail(SDCPP_BAD_FILE, "too short for a zip");
    size_t end = file.size() - 22;
    const size_t lowest = end > 65535 ? end - 65535 : 0;
    while (load<uint32_t>(file, end) != end_mark) {
        if (end == lowest) fail(SDCPP_BAD_FILE, "no end of the zip's directory found; the file is truncated");
        --end;
    }
    uint64_t count = load<uint16_t>(file, end + 10), at = load<uint32_t>(file, end + 16);
    if (end >= 20 && load<uint32_t>(file, end - 20) == locator_mark) {
        const auto end64 = load<uint64_t>(file, end - 12);
        if (load<uint32_t>(part(file, end64, 56), 0) != end64_mark)
            fail(SDCPP_BAD_FILE, "the zip64 directory is damaged");
        count = load<uint64_t>(part(file, end64, 56), 32);
        at = load<uint64_t>(part(file, end64, 56), 48);
    }
    std::map<std::string, Bytes> entries;
    for (uint64_t i = 0; i < count; ++i) {
        const Bytes head = part(file, at, 46);
        if (load<uint32_t>(head, 0) != entry_mark) fail(SDCPP_BAD_FILE, "the zip's directory is damaged");
        const auto method = load<uint16_t>(head, 10);
        uint64_t size = load<uint32_t>(head, 24), packed = load<uint32_t>(head, 20), offset = load<uint32_t>(head, 42);
        const auto name_size = load<uint16_t>(head, 28), extra_size = load<uint16_t>(head, 30),
                   comment_size = load<uint16_t>(head, 32);
        const std::string name = text(part(file, at + 46, name_size));
        const Bytes extra = part(file, at + 46 + name_size, extra_size);
        for (size_t e = 0; e + 4 <= extra.size();) {
            const auto id = load<uint16_t>(extra, e), length = load<uint16_t>(extra, e + 2);
            size_t field = e + 4;
            if (id == 1) {
                for (uint64_t* wide : {&size, &packed, &offset}) {
                    if (*wide != 0xFFFFFFFF) continue;
                    *wide = load<uint64_t>(extra, field);
                    field += 8;
                }
            }
            e += 4 + length;
        }
        if (method != 0 || size != packed)
            fail(SDCPP_BAD_FILE, "entry ", name, " is compressed; save the checkpoint again with PyTorch");
        const Bytes local = part(file, offset, 30);
        const uint64_t start = offset + 30 + load<uint16_t>(local, 26) + load<uint16_t>(local, 28);
        entries[name] = part(file, start, size);
        at += 46ull + name_size + extra_size + comment_size;
    }
    return entries;
}

using pickle::Value;

// A tensor's sides, or the distances of its values.
std::vector<int64_t> integers(const Value& sequence) {
    std::vector<int64_t> out;
    for (const Value* item : sequence.items) out.push_back(item->integer);
    return out;
}

void add_tensor(TensorFile& out, const std::map<std::string, Bytes>& entries, const std::string& folder,
                const std::string& name, const Value& value) {
    if (value.kind == Value::Kind::odd_tensor)
        fail(SDCPP_BAD_FILE, "tensor ", name, " is made by ", value.text,
             ", which cannot be read; save the weights alone as safetensors");
    if (value.kind != Value::Kind::tensor) return;
    TensorInfo tensor;
    tensor.name = name;
    tensor.type = value.type;
    if (value.items[1]->items.size() > max_dimensions)
        fail(SDCPP_BAD_FILE, "tensor ", name, " has too many dimensions");
    tensor.shape = integers(*value.items[1]);
    const std::vector<int64_t> strides = integers(*value.items[2]);
    size_t size = 0;
    if (checked_count(name, tensor.shape, tensor.type, size) > 0) {
        int64_t expected = 1;
        for (size_t d = tensor.shape.size(); d-- > 0; expected *= tensor.shape[d])
            if (d >= strides.size() || (tensor.shape[d] != 1 && strides[d] != expected))
                fail(SDCPP_BAD_FILE, "tensor ", name,
                     " is not contiguous; save the checkpoint again after .contiguous()");
        const auto storage = entries.find(folder + "data/" + std::string(value.items[0]->text));
        if (storage == entries.end()) fail(SDCPP_BAD_FILE, "the data of tensor ", name, " is missing");
        uint64_t offset = 0;
        if (value.integer < 0 ||
            __builtin_mul_overflow(static_cast<uint64_t>(value.integer), dtype_block_bytes(tensor.type), &offset))
            fail(SDCPP_BAD_FILE, "tensor ", name, " has a bad offset");
        tensor.bytes = part(storage->second, offset, size);
    }
    out.tensors.push_back(std::move(tensor));
}

size_t tensors_in(const Value& dict) {
    size_t count = 0;
    for (size_t i = 0; dict.kind == Value::Kind::dict && i + 1 < dict.items.size(); i += 2)
        count += dict.items[i + 1]->kind == Value::Kind::tensor;
    return count;
}

// The dictionary that holds the weights: "state_dict", else the one that most tensors lie in.
const Value& state_dict(const Value& root) {
    const Value* best = &root;
    for (size_t i = 0; root.kind == Value::Kind::dict && i + 1 < root.items.size(); i += 2) {
        const Value& inner = *root.items[i + 1];
        if (root.items[i]->text == "state_dict" && inner.kind == Value::Kind::dict) return inner;
        if (tensors_in(inner) > tensors_in(*best)) best = &inner;
    }
    return *best;
}

// Whether the dictionary holds several others, with nothing in them but tensors whose names are all different: parts of
// one thing, as IP-Adapters are saved.
bool holds_parts(const Value& root) {
    if (root.kind != Value::Kind::dict || root.items.size() < 4) return false;
    std::set<std::string_view> names;
    for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
        const Value &key = *root.items[i], &part = *root.items[i + 1];
        if (key.kind != Value::Kind::string || key.text == "state_dict") return false;
        if (part.kind != Value::Kind::dict || part.items.size() < 2) return false;
        for (size_t j = 0; j + 1 < part.items.size(); j += 2)
            if (part.items[j]->kind != Value::Kind::string || part.items[j + 1]->kind != Value::Kind::tensor ||
                !names.insert(part.items[j]->text).second)
                return false;
    }
    return true;
}

}  // namespace

TensorFile read_torch_zip(std::shared_ptr<const MappedFile> file) {
    const std::map<std::string, Bytes> entries = zip_entries(file->bytes());
    std::string folder;
    const Bytes* pickled = nullptr;
    for (const auto& [name, bytes] : entries) {
        if (!name.ends_with("data.pkl")) continue;
        folder = name.substr(0, name.size() - std::strlen("data.pkl"));
        pickled = &bytes;
    }
    if (!pickled) fail(SDCPP_BAD_FILE, "a zip without data.pkl is no PyTorch checkpoint");
    if (const auto order = entries.find(folder + "byteorder");
        order != entries.end() && text(order->second) != "little")
        fail(SDCPP_BAD_FILE, "big-endian checkpoints cannot be read");
    const pickle::Pickle values(*pickled);
    TensorFile out;
    out.format = "torch";
    const auto add_all = [&](const Value& dict, const std::string& before) {
        std::set<std::string_view> seen;  // a key that comes again replaces the first
        for (size_t i = dict.items.size() / 2 * 2; i >= 2; i -= 2)
            if (const Value& key = *dict.items[i - 2]; key.kind == Value::Kind::string && seen.insert(key.text).second)
                add_tensor(out, entries, folder, before + std::string(key.text), *dict.items[i - 1]);
    };
    if (const Value& root = values.root(); holds_parts(root)) {
        for (size_t i = root.items.size() / 2 * 2; i >= 2; i -= 2)
            add_all(*root.items[i - 1], std::string(root.items[i - 2]->text) + ".");
    } else {
        const Value& state = state_dict(root);
        if (state.kind != Value::Kind::dict) fail(SDCPP_BAD_FILE, "the checkpoint holds no dictionary of tensors");
        add_all(state, "");
    }
    std::reverse(out.tensors.begin(), out.tensors.end());
    if (out.tensors.empty()) fail(SDCPP_BAD_FILE, "the checkpoint holds no tensors");
    out.files.push_back(std::move(file));
    return out;
}

}  // namespace sdcpp
