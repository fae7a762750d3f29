#include "weights/weight.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"

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

void convert_piece(const Weight& weight, ggml_type type, const Piece& piece, std::byte* out) {
    const TensorInfo& source = *weight.source;
    const int64_t row = std::max<int64_t>(1, weight.shape.back()), block = dtype_block(source.type);
    std::vector<float> values(static_cast<size_t>(piece.count));
    to_f32(source.type, source.bytes.data() + static_cast<size_t>(piece.first / block) * dtype_block_bytes(source.type),
           values.data(), piece.count);
    ggml_quantize_chunk(type, values.data(), out, 0, piece.count / row, row, nullptr);
}

}  // namespace

const Weight* WeightList::add(const std::string& name, WeightKind kind, const std::vector<int64_t>& shape) {
    const TensorInfo* source = files_->find(name);
    if (!source) fail(SDCPP_MISSING_PART, "the model lacks the tensor ", name);
    if (squeezed(source->shape) != squeezed(shape))
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", name, " has shape ", shape_text(source->shape), ", expected ",
             shape_text(shape));
    if (!dtype_is_numeric(source->type))
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", name, " has type ", dtype_name(source->type),
             ", which holds no weights");
    return &weights_.emplace_back(Weight{name, source, kind, shape, nullptr});
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
    return list_->add(prefix_ + "." + std::string(name), kind, shape);
}

ggml_type stored_type(const Weight& weight, const TypeRules& rules) {
    const DType source = weight.source->type;
    const bool plain = source == from_ggml(GGML_TYPE_F32) || source == from_ggml(GGML_TYPE_F16);
    auto [wanted, by_rule] = rules.of(weight.name);
    switch (weight.kind) {
        case WeightKind::vector:
            return GGML_TYPE_F32;
        case WeightKind::convolution:
            if (wanted == GGML_TYPE_F32) return GGML_TYPE_F32;
            if (wanted != GGML_TYPE_COUNT && wanted != GGML_TYPE_BF16) return GGML_TYPE_F16;
            if (plain) return to_ggml(source);
            // f16 holds every bf16 weight of a convolution but the last bits of those below 2^-14; f64 may need more
            return source == from_ggml(GGML_TYPE_F64) ? GGML_TYPE_F32 : GGML_TYPE_F16;
        case WeightKind::edge:
            if (!by_rule && wanted != GGML_TYPE_COUNT && ggml_is_quantized(wanted)) wanted = GGML_TYPE_Q8_0;
            break;
        case WeightKind::matrix:
            break;
    }
    if (wanted != GGML_TYPE_COUNT) {
        for (const ggml_type type : {wanted, ggml_is_quantized(wanted) ? GGML_TYPE_Q8_0 : wanted})
            if (weight.shape.back() % ggml_blck_size(type) == 0) return type;
        return GGML_TYPE_F16;
    }
    if (source == from_ggml(GGML_TYPE_F64)) return GGML_TYPE_F32;
    return is_ggml(source) ? to_ggml(source) : GGML_TYPE_F16;  // every f8 value is an f16 value
}

std::vector<Piece> pieces_of(const Weight& weight) {
    const int64_t row = std::max<int64_t>(1, weight.shape.back());
    const int64_t total = weight.source->count();
    const int64_t block = dtype_block(weight.source->type);
    int64_t unit = row;
    while (unit % block != 0 && unit < total) unit += row;
    const int64_t slice = std::min(total, std::max<int64_t>(unit, (1 << 20) / unit * unit));
    std::vector<Piece> out;
    for (int64_t at = 0; at < total; at += slice) out.push_back({at, std::min(slice, total - at)});
    return out;
}

void convert_pieces(const Weight& weight, ggml_type type, const std::vector<Piece>& pieces, size_t first, size_t last,
                    int threads, std::byte* out) {
    const int64_t row = std::max<int64_t>(1, weight.shape.back()), start = pieces[first].first;
    std::atomic<size_t> next = first;
    std::exception_ptr problem;
    std::mutex guard;
    const auto work = [&] {
        try {
            for (size_t i = next++; i < last; i = next++)
                convert_piece(weight, type, pieces[i],
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

void convert_weight(const Weight& weight, ggml_type type, std::byte* out, int threads,
                    const std::function<void(std::span<const std::byte>)>& done) {
    const TensorInfo& source = *weight.source;
    const bool unchanged = source.type == from_ggml(type);
    const int64_t row = std::max<int64_t>(1, weight.shape.back()), block = dtype_block(source.type);
    const size_t block_bytes = dtype_block_bytes(source.type);
    const std::vector<Piece> pieces = pieces_of(weight);
    const auto together = static_cast<size_t>(threads);
    for (size_t first = 0; first < pieces.size(); first += together) {
        const size_t last = std::min(pieces.size(), first + together);
        const int64_t start = pieces[first].first, count = pieces[last - 1].first + pieces[last - 1].count - start;
        const auto from = source.bytes.subspan(static_cast<size_t>(start / block) * block_bytes,
                                               static_cast<size_t>((count + block - 1) / block) * block_bytes);
        if (unchanged) {
            std::memcpy(out, from.data(), from.size());
            out += from.size();
        } else {
            convert_pieces(weight, type, pieces, first, last, threads, out);
            out += ggml_row_size(type, row) * static_cast<size_t>(count / row);
        }
        done(from);
    }
}

}  // namespace sdcpp
