#include "weights/packed/packed_layer.h"

#include <algorithm>
#include <array>

namespace sdcpp {
namespace {

constexpr std::string_view weight = ".weight";

std::vector<float> numbers_of_bytes(DType type) {
    std::array<std::byte, 256> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    std::vector<float> out(bytes.size());
    to_f32(type, bytes.data(), out.data(), static_cast<int64_t>(out.size()));
    return out;
}

// E8M0: powers of two from 2^-127; the last is no number.
std::vector<float> powers_of_two() {
    std::vector<float> out(256, std::numeric_limits<float>::quiet_NaN());
    for (int i = 0; i < 255; ++i) out[static_cast<size_t>(i)] = std::ldexp(1.0f, i - 127);
    return out;
}

int64_t whole_tiles(int64_t side, int64_t tile) { return (side + tile - 1) / tile * tile; }

DType codes(int bits) { return bits == 4 ? DType::codes_4 : bits == 6 ? DType::codes_6 : DType::codes_8; }

}  // namespace

std::string PackedLayer::beside(std::string_view ending) const {
    return tensor.name.substr(0, tensor.name.size() - weight.size()) + std::string(ending);
}

const TensorInfo* PackedLayer::find(const std::string& name) const {
    const auto found = index_.find(name);
    if (found == index_.end()) return nullptr;
    used_.insert(found->second);
    return found->second;
}

const TensorInfo& PackedLayer::get(const std::string& name) const {
    const TensorInfo* found = find(name);
    if (!found) fail_here(name, " is missing");
    return *found;
}

int64_t PackedLayer::rows_of_bias() const {
    const auto found = index_.find(beside(".bias"));
    return found != index_.end() && found->second->shape.size() == 1 ? found->second->shape[0] : 0;
}

std::vector<float> PackedLayer::numbers(const TensorInfo& of, int64_t count) const {
    if (of.count() != count) fail_here(of.name, " has ", of.count(), " values in place of ", count);
    if (!dtype_is_numeric(of.type) || dtype_block(of.type) != 1)
        fail_here(of.name, " has the type ", dtype_name(of.type));
    std::vector<float> out(static_cast<size_t>(count));
    to_f32(of.type, of.bytes.data(), out.data(), count);
    for (const float number : out)
        if (!std::isfinite(number)) fail_here("a value of ", of.name, " is ", number);
    return out;
}

int64_t PackedLayer::whole(std::string_view key, int64_t otherwise) const {
    const Json& value = facts[key];
    if (value.is_null()) return otherwise;
    const int64_t* number = value.integer();
    if (!number || *number < 1 || *number > 1 << 20)
        fail_here("what is said of it has a bad ", key, ": ", value.dump().substr(0, 60));
    return *number;
}

float largest_of(const std::vector<float>& values) {
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    return largest;
}

const std::vector<float>& e4m3_numbers() {
    static const std::vector<float> numbers = numbers_of_bytes(DType::f8_e4m3);
    return numbers;
}

const std::vector<float>& e8m0_numbers() {
    static const std::vector<float> numbers = powers_of_two();
    return numbers;
}

Packing packed_matrix(const PackedLayer& layer, std::initializer_list<DType> types, int bits) {
    const TensorInfo& tensor = layer.tensor;
    if (std::find(types.begin(), types.end(), tensor.type) == types.end())
        layer.fail_here("has the type ", dtype_name(tensor.type));
    if (tensor.shape.size() != 2 || tensor.count() == 0) layer.fail_here("is no matrix");
    Packing out;
    out.format = layer.format;
    out.bits = bits;
    out.rows = tensor.shape[0];
    out.columns = tensor.shape[1] * 8 / bits;
    return out;
}

BlockFactors byte_blocks(const PackedLayer& layer, const Packing& packing, const TensorInfo& scales, int64_t side,
                         const std::vector<float>& table, bool tiled) {
    if (packing.columns % side != 0)
        layer.fail_here("its rows of ", packing.columns, " values are no whole blocks of ", side);
    if (scales.type != DType::u8 && (scales.type != DType::f8_e4m3 || &table != &e4m3_numbers()))
        layer.fail_here(scales.name, " has the type ", dtype_name(scales.type));
    const int64_t blocks = packing.columns / side, columns = tiled ? whole_tiles(blocks, 4) : blocks;
    const int64_t expected = (tiled ? whole_tiles(packing.rows, 128) : packing.rows) * columns;
    if (scales.count() != expected)
        layer.fail_here(scales.name, " has ", scales.count(), " values in place of ", expected);
    return {.name = scales.name,
            .bytes = scales.bytes,
            .type = scales.type,
            .table = table,
            .side = side,
            .tiled_columns = tiled ? columns : 0};
}

void add_factors(const PackedLayer& layer, Packing& packing, const TensorInfo& scales, float largest) {
    if (scales.count() == 1) {
        packing.factor = layer.numbers(scales, 1).front();
        packing.largest = std::abs(packing.factor) * largest;
    } else {
        packing.row_factors = layer.numbers(scales, packing.rows);
        packing.largest = largest_of(packing.row_factors) * largest;
    }
}

void attach(const PackedLayer& layer, Packing packing) {
    TensorInfo& tensor = layer.tensor;
    if (const TensorInfo* factors = layer.find(layer.beside(".pre_quant_scale"))) {
        const int64_t columns = factors->count();
        if (columns > packing.columns || columns <= packing.columns - packing.padding)
            layer.fail_here(factors->name, " has ", columns, " values in place of ", packing.columns);
        packing.column_factors = layer.numbers(*factors, columns);
    }
    if (tensor.shape.size() == 2 && tensor.shape[0] == packing.rows) tensor.shape[1] = packing.columns;
    // a bias tells how many rows are not padding
    if (packing.padding > 1) {
        const int64_t rows = layer.rows_of_bias();
        if (rows < packing.rows && rows > packing.rows - packing.padding) {
            tensor.bytes =
                tensor.bytes.first(tensor.bytes.size() / static_cast<size_t>(packing.rows) * static_cast<size_t>(rows));
            tensor.shape[0] = rows;
        }
    }
    tensor.type = codes(packing.bits);
    tensor.packing = std::make_shared<const Packing>(std::move(packing));
}

}  // namespace sdcpp
