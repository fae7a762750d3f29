// Read-only views of tensor files. A reader checks every number in a file against the file's size before it is used. So
// a TensorFile is safe to read: each tensor's bytes lie inside a mapping that `files` keeps alive.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.h"
#include "io/json.h"
#include "io/mapped_file.h"

namespace sdcpp {

// Factors of a tensor's values, on a grid over its rows and columns.
struct ScaleGrid {
    std::vector<float> factors;             // row by row of the grid
    int64_t columns = 1;                    // the grid's
    int64_t row_side = 0, column_side = 0;  // rows and columns of the tensor that share a factor
};

struct Packing;  // weights/packed/packing.h

struct TensorInfo {
    std::string name;
    DType type{};
    std::vector<int64_t> shape;                 // outermost first, as PyTorch writes it
    std::span<const std::byte> bytes;           // contiguous, row-major
    std::shared_ptr<const ScaleGrid> scales{};  // null: none
    std::shared_ptr<const Packing> packing{};   // how a packed tensor's codes become values; null: none
    int64_t first_row = 0;                      // scales and packing count rows from so many before this tensor's first

    int64_t count() const {
        int64_t n = 1;
        for (const int64_t side : shape) n *= side;
        return n;
    }
};

struct TensorFile {
    std::vector<std::shared_ptr<const MappedFile>> files;
    std::vector<TensorInfo> tensors;
    std::map<std::string, std::string> metadata;
    std::vector<std::string> quantization;  // ComfyUI's `_quantization_metadata` of each file, which is JSON
    std::string format;                     // "safetensors", "gguf" or "torch"

    // Takes over another file's tensors, and metadata whose keys are not here yet.
    void append(TensorFile other);
};

// The one of `files` in which a tensor's bytes lie.
std::shared_ptr<const MappedFile> file_of(const std::vector<std::shared_ptr<const MappedFile>>& files,
                                          std::span<const std::byte> bytes);

constexpr int max_dimensions = 8;

// The number of values of a shape; throws SDCPP_BAD_FILE if a side is negative, the product overflows, or the last
// side is not whole blocks of `type`. `bytes` receives the size in bytes.
int64_t checked_count(const std::string& name, const std::vector<int64_t>& shape, DType type, size_t& bytes);

// Throws SDCPP_BAD_FILE if two tensors have one name.
void check_names(const TensorFile& file);

TensorFile read_safetensors(std::shared_ptr<const MappedFile> file);
TensorFile read_gguf(std::shared_ptr<const MappedFile> file);
TensorFile read_torch_zip(std::shared_ptr<const MappedFile> file);

// Reads a tensor file by its first bytes.
TensorFile read_tensor_file(std::shared_ptr<const MappedFile> file);

// Opens one tensor file, or the shards that an index such as `*.safetensors.index.json` lists.
TensorFile open_tensor_file(const std::filesystem::path& path);

}  // namespace sdcpp
