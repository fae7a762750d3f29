#include "io/tensor_file.h"

#include <iterator>
#include <set>

#include "base/error.h"

namespace sdcpp {
namespace {

TensorFile open_shards(const std::filesystem::path& index) {
    const MappedFile file(index);
    const Json json = Json::parse(file.text());
    const Json::Object* weights = json["weight_map"].object();
    if (!weights || weights->empty())
        fail(SDCPP_BAD_FILE, index.string(), " is no index of shards, which has an object \"weight_map\"",
             index.filename() == "model_index.json" ? "; give the folder that it lies in" : "");
    std::set<std::string> shards;
    for (const auto& [name, shard] : *weights) {
        const std::string* text = shard.string();
        if (!text || text->empty() || std::filesystem::path(*text).has_parent_path() || *text == "..")
            fail(SDCPP_BAD_FILE, index.string(), ": the shard of ", name, " is not a plain file name");
        shards.insert(*text);
    }
    TensorFile all;
    for (const std::string& shard : shards) {
        TensorFile one = read_tensor_file(std::make_shared<MappedFile>(index.parent_path() / shard));
        all.format = one.format;
        all.append(std::move(one));
    }
    check_names(all);
    return all;
}

}  // namespace

void TensorFile::append(TensorFile other) {
    files.insert(files.end(), other.files.begin(), other.files.end());
    tensors.insert(tensors.end(), std::make_move_iterator(other.tensors.begin()),
                   std::make_move_iterator(other.tensors.end()));
    metadata.merge(other.metadata);
    quantization.insert(quantization.end(), std::make_move_iterator(other.quantization.begin()),
                        std::make_move_iterator(other.quantization.end()));
}

int64_t checked_count(const std::string& name, const std::vector<int64_t>& shape, DType type, size_t& bytes) {
    if (shape.size() > max_dimensions) fail(SDCPP_BAD_FILE, "tensor ", name, " has ", shape.size(), " dimensions");
    uint64_t count = 1;
    for (const int64_t side : shape) {
        if (side < 0) fail(SDCPP_BAD_FILE, "tensor ", name, " has a negative size");
        if (__builtin_mul_overflow(count, static_cast<uint64_t>(side), &count) || count > (1ull << 48))
            fail(SDCPP_BAD_FILE, "tensor ", name, " is larger than any file");
    }
    const auto block = static_cast<uint64_t>(dtype_block(type));
    if (block == 0 || (block > 1 && (shape.empty() || static_cast<uint64_t>(shape.back()) % block != 0)))
        fail(SDCPP_BAD_FILE, "tensor ", name, ": rows of type ", dtype_name(type), " are not whole blocks of ", block);
    bytes = static_cast<size_t>(count / block * dtype_block_bytes(type));
    return static_cast<int64_t>(count);
}

std::shared_ptr<const MappedFile> file_of(const std::vector<std::shared_ptr<const MappedFile>>& files,
                                          std::span<const std::byte> bytes) {
    for (const auto& file : files) {
        const auto all = file->bytes();
        if (bytes.data() >= all.data() && bytes.data() + bytes.size() <= all.data() + all.size()) return file;
    }
    fail(SDCPP_INTERNAL, "a tensor lies in no open file");
}

void check_names(const TensorFile& file) {
    std::set<std::string_view> seen;
    for (const TensorInfo& tensor : file.tensors)
        if (!seen.insert(tensor.name).second)
            fail(SDCPP_BAD_FILE, file.files.front()->path().string(), ": tensor ", tensor.name, " stands twice");
}

TensorFile read_tensor_file(std::shared_ptr<const MappedFile> file) {
    const std::string name = file->path().string();
    const std::string_view text = file->text();
    try {
        if (text.starts_with("GGUF")) return read_gguf(std::move(file));
        if (text.starts_with("PK\x03\x04")) return read_torch_zip(std::move(file));
        if (text.size() > 8 && text[8] == '{') return read_safetensors(std::move(file));
    } catch (const Error& error) {
        fail(error.status(), name, ": ", error.what());
    }
    if (text.starts_with("\x80\x02"))
        fail(SDCPP_BAD_FILE, name, " is a bare pickle of an old PyTorch; load it there and save it as safetensors");
    if (text.starts_with("version https://git-lfs"))
        fail(SDCPP_BAD_FILE, name,
             " is a pointer that Git LFS leaves in place of a file; fetch the file with "
             "git lfs pull, in its folder");
    if (text.starts_with("<"))
        fail(SDCPP_BAD_FILE, name, " is a web page; download the file itself, perhaps after logging in");
    fail(SDCPP_BAD_FILE, name, " is neither safetensors nor GGUF nor a PyTorch zip; the file may be damaged");
}

TensorFile open_tensor_file(const std::filesystem::path& path) {
    if (path.extension() == ".json") return open_shards(path);
    return read_tensor_file(std::make_shared<const MappedFile>(path));
}

}  // namespace sdcpp
