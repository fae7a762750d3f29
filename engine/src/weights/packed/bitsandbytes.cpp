// bitsandbytes' formats: 4 bits (nf4, fp4), plain and nested, and int8.
#include <algorithm>
#include <cmath>

#include "weights/packed/formats.h"

namespace sdcpp {

// bitsandbytes' 4 bits: 16 numbers, each times the largest size of its block of the weight written as one row. The
// largest sizes may be packed, too.
Packing bitsandbytes_4(const PackedLayer& layer) {
    const std::string& name = layer.tensor.name;
    Packing out;
    out.format = layer.format;
    out.bits = 4;
    out.high_first = true;
    const std::vector<int> shape = layer.facts.integers("shape");
    const bool positive = std::all_of(shape.begin(), shape.end(), [](int side) { return side > 0; });
    if (shape.empty() || shape.size() > max_dimensions || !positive)
        layer.fail_here("its state has no shape: ", layer.facts["shape"].dump().substr(0, 100));
    const std::vector<int64_t> sides(shape.begin(), shape.end());
    size_t unused = 0;
    const int64_t count = checked_count(name, sides, from_ggml(GGML_TYPE_F32), unused);
    // the bytes may be stored as wider numbers ("bnb_4bit_quant_storage")
    if (static_cast<int64_t>(layer.tensor.bytes.size()) != (count + 1) / 2)
        layer.fail_here("has ", layer.tensor.bytes.size(), " bytes in place of ", (count + 1) / 2);
    out.rows = sides.front();
    out.columns = count / out.rows;
    out.levels = layer.numbers(layer.get(name + ".quant_map"), 16);
    const TensorInfo& sizes = layer.get(name + ".absmax");
    const int64_t side = layer.whole("blocksize", 64), blocks = (count + side - 1) / side;
    if (sizes.count() != blocks) layer.fail_here(sizes.name, " has ", sizes.count(), " values in place of ", blocks);
    out.blocks = BlockFactors{.name = sizes.name, .bytes = sizes.bytes, .type = sizes.type, .side = side};
    if (const TensorInfo* over = layer.find(name + ".nested_absmax")) {
        const int64_t over_side = layer.whole("nested_blocksize", 256);
        out.blocks->table = layer.numbers(layer.get(name + ".nested_quant_map"), 256);
        out.blocks->over = layer.numbers(*over, (blocks + over_side - 1) / over_side);
        out.blocks->over_side = over_side;
        double offset = 0;
        if (!layer.facts["nested_offset"].number(offset)) layer.fail_here("its state has no nested_offset");
        out.blocks->offset = static_cast<float>(offset);
        out.largest = largest_of(out.blocks->over) * largest_of(out.blocks->table) + std::abs(out.blocks->offset);
        out.largest *= largest_of(out.levels);
        if (sizes.type != DType::u8) layer.fail_here(sizes.name, " has the type ", dtype_name(sizes.type));
    } else {
        if (!dtype_is_numeric(sizes.type) || dtype_block(sizes.type) != 1)
            layer.fail_here(sizes.name, " has the type ", dtype_name(sizes.type));
        // all factors were not looked at, but a weight that was f16 fits f16
        out.largest = layer.facts.string_or("dtype", "") == "float16" ? 1.0f : unknown_size;
    }
    layer.tensor.shape = sides;
    return out;
}

Packing bitsandbytes_8(const PackedLayer& layer) {
    Packing out = packed_matrix(layer, {from_ggml(GGML_TYPE_I8)}, 8);
    out.row_factors = layer.numbers(layer.get(layer.beside(".SCB")), out.rows);
    out.factor = 1 / 127.0f;
    out.largest = largest_of(out.row_factors) * out.factor * 128;
    const TensorInfo* order = layer.find(layer.beside(".weight_format"));
    if (order && !order->bytes.empty() && order->bytes[0] != std::byte{0})
        fail(SDCPP_UNSUPPORTED_MODEL, layer.tensor.name,
             " is int8 of bitsandbytes in an order of its kernels (weight_format), which cannot be read; save it in "
             "plain rows, or take bf16, f16, f8 or GGUF (q8_0, q4_K …)");
    return out;
}

}  // namespace sdcpp
