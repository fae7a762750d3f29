#include "weights/weight.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "weights/packed/packed_source.h"

namespace sdcpp {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (const int64_t side : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(side);
    return text + "]";
}

// Sides without ones, so that a linear layer may be stored as a 1x1 convolution, and [1, C] as [C].
std::vector<int64_t> squeezed(std::vector<int64_t> shape) {
    std::erase(shape, 1);
    return shape;
}

// Whether a packed tensor is a matrix of this shape whose sides are padded.
bool is_padded_to(const TensorInfo& tensor, const std::vector<int64_t>& shape) {
    if (!tensor.packing || tensor.packing->padding == 1 || tensor.shape.size() != 2 || shape.size() != 2) return false;
    const int64_t padding = tensor.packing->padding;
    const bool whole = tensor.shape[0] == tensor.packing->rows;  // a part of a fused tensor must fit
    return (tensor.shape[0] == shape[0] || (whole && shape[0] > tensor.shape[0] - padding)) &&
           shape[0] <= tensor.shape[0] && shape[1] <= tensor.shape[1] && shape[1] > tensor.shape[1] - padding;
}

void convert_row_block(const Weight& weight, ggml_type type, const RowBlock& piece, std::byte* out) {
    const int64_t row = std::max<int64_t>(1, weight.shape.back());
    const std::unique_ptr<float[]> values(new float[static_cast<size_t>(piece.count)]);
    weight.source->rows(piece.first, piece.count, values.get());
    if (type == GGML_TYPE_F16)
        to_f16(values.get(), reinterpret_cast<ggml_fp16_t*>(out), piece.count);
    else
        ggml_quantize_chunk(type, values.get(), out, 0, piece.count / row, row, nullptr);
}

}  // namespace

WeightSourcePtr source_of(const ModelFiles& files, const TensorInfo& tensor) {
    if (tensor.packing) {
        const MappedFile& file = files.file_of(tensor.bytes);
        const auto& blocks = tensor.packing->blocks;
        return std::make_shared<PackedSource>(tensor, file, blocks ? files.file_of(blocks->bytes) : file);
    }
    auto values = std::make_shared<MappedSource>(tensor, files.file_of(tensor.bytes));
    if (!tensor.scales) return values;
    const int64_t columns = tensor.count() / tensor.shape.front();
    return std::make_shared<ScaledSource>(std::move(values), tensor.scales, columns, tensor.first_row);
}

bool Scope::has(std::string_view name) const {
    const std::string full = prefix_ + "." + std::string(name);
    return files().find(full) || files().has_prefix(full + ".");
}

const TensorInfo& Scope::tensor(std::string_view name) const {
    const std::string full = prefix_ + "." + std::string(name);
    const TensorInfo* found = files().find(full);
    if (!found) fail(SDCPP_MISSING_PART, "the model lacks the tensor ", full);
    return *found;
}

int64_t Scope::side(std::string_view name, size_t d) const {
    const TensorInfo& found = tensor(name);
    if (d >= found.shape.size() || found.shape[d] < 1)
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", prefix_, ".", name, " has the unexpected shape ",
             shape_text(found.shape));
    if (found.shape[d] > 1 << 20)
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", prefix_, ".", name, " is too wide: ", shape_text(found.shape));
    return found.shape[d];
}

int Scope::count(std::string_view name) const {
    int n = 0;
    while (n < 1000 && (*this / name).has(std::to_string(n))) ++n;
    return n;
}

const Weight* Scope::weight(std::string_view name, WeightKind kind, const std::vector<int64_t>& shape) const {
    TensorInfo found = tensor(name);
    std::string full = prefix_ + "." + std::string(name);
    if (is_padded_to(found, shape)) found.shape = shape;
    // a kernel with a side for time: of one frame, with zeros before it, a causal convolution sees the last slice alone
    const bool timed =
        kind == WeightKind::convolution && found.shape.size() == 5 && shape.size() == 4 && found.shape[2] > 1;
    std::vector<int64_t> own = found.shape;
    if (timed) own.erase(own.begin() + 2);
    if (squeezed(own) != squeezed(shape))
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", full, " has shape ", shape_text(found.shape), ", expected ",
             shape_text(shape));
    if (!found.packing && !dtype_is_numeric(found.type))
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", full, " has type ", dtype_name(found.type),
             ", which holds no weights");
    WeightSourcePtr source = source_of(files(), found);
    if (timed) {
        const int64_t slice = shape[2] * shape[3];
        source = std::make_shared<SlicedSource>(std::move(source), found.shape[2] * slice, (found.shape[2] - 1) * slice,
                                                slice);
    }
    return list_->add({std::move(full), std::move(source), kind, shape, nullptr});
}

ggml_type stored_type(const Weight& weight, const TypeRules& rules) {
    const DType source = weight.source->type();
    const bool f16 = weight.source->fits_f16();
    const bool plain = source == from_ggml(GGML_TYPE_F32) || source == from_ggml(GGML_TYPE_F16);
    auto [wanted, by_rule] = rules.of(weight.name);
    switch (weight.kind) {
        case WeightKind::vector:
            return GGML_TYPE_F32;
        case WeightKind::convolution:
            if (wanted == GGML_TYPE_F32) return GGML_TYPE_F32;
            if (wanted != GGML_TYPE_COUNT && wanted != GGML_TYPE_BF16) return GGML_TYPE_F16;
            if (plain) return to_ggml(source);
            // f16 holds a convolution's bf16 weights except the last bits of values below 2^-14; f64 may need more
            if (source == from_ggml(GGML_TYPE_BF16)) return GGML_TYPE_F16;
            return f16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
        case WeightKind::edge:
            if (!by_rule && wanted != GGML_TYPE_COUNT && ggml_is_quantized(wanted)) wanted = GGML_TYPE_Q8_0;
            break;
        case WeightKind::matrix:
            break;
    }
    if (wanted == GGML_TYPE_COUNT) {
        if (source == from_ggml(GGML_TYPE_F64)) return GGML_TYPE_F32;
        if (!is_ggml(source)) return f16 ? GGML_TYPE_F16 : GGML_TYPE_BF16;  // every f8 value is an f16 value
        wanted = to_ggml(source);
    }
    // ggml's rows are whole blocks; some files' are not
    for (const ggml_type type : {wanted, ggml_is_quantized(wanted) ? GGML_TYPE_Q8_0 : wanted})
        if (weight.shape.back() % ggml_blck_size(type) == 0) return type;
    return GGML_TYPE_F16;
}

std::vector<RowBlock> row_blocks_of(const Weight& weight) {
    const int64_t row = std::max<int64_t>(1, weight.shape.back());
    const int64_t total = weight.source->count();
    const int64_t block = dtype_block(weight.source->type());
    int64_t unit = row;
    while (unit % block != 0 && unit < total) unit += row;
    const int64_t slice = std::min(total, std::max<int64_t>(unit, (1 << 20) / unit * unit));
    std::vector<RowBlock> out;
    for (int64_t at = 0; at < total; at += slice) out.push_back({at, std::min(slice, total - at)});
    return out;
}

void convert_row_blocks(const Weight& weight, ggml_type type, const std::vector<RowBlock>& pieces, size_t first,
                        size_t last, int threads, std::byte* out) {
    const int64_t row = std::max<int64_t>(1, weight.shape.back()), start = pieces[first].first;
    std::atomic<size_t> next = first;
    std::exception_ptr problem;
    std::mutex guard;
    const auto work = [&] {
        prepare_for_exceptions();
        try {
            for (size_t i = next++; i < last; i = next++)
                convert_row_block(
                    weight, type, pieces[i],
                    out + ggml_row_size(type, row) * static_cast<size_t>((pieces[i].first - start) / row));
        } catch (...) {
            const std::scoped_lock lock(guard);
            problem = std::current_exception();
        }
    };
    std::vector<std::jthread> helpers;
    for (int i = 1; i < std::min(threads, static_cast<int>(last - first)); ++i) helpers.emplace_back(work);
    work();
    helpers.clear();
    if (problem) std::rethrow_exception(problem);
}

void convert_weight(const Weight& weight, ggml_type type, std::byte* out, int threads, bool forget) {
    const WeightSource& source = *weight.source;
    const std::span<const std::byte> unchanged = source.bytes_as(type);
    const int64_t row = std::max<int64_t>(1, weight.shape.back());
    const std::vector<RowBlock> pieces = row_blocks_of(weight);
    const auto together = static_cast<size_t>(threads);
    size_t at = 0;
    for (size_t first = 0; first < pieces.size(); first += together) {
        const size_t last = std::min(pieces.size(), first + together);
        const int64_t start = pieces[first].first, count = pieces[last - 1].first + pieces[last - 1].count - start;
        const size_t bytes = ggml_row_size(type, row) * static_cast<size_t>(count / row);
        if (unchanged.empty())
            convert_row_blocks(weight, type, pieces, first, last, threads, out + at);
        else
            source.read(unchanged.subspan(at, bytes), out + at);
        at += bytes;
        if (forget) source.forget(start, count);
    }
}

}  // namespace sdcpp
