#include "runtime/graph_layout.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace sdcpp {
namespace {

constexpr int kept = std::numeric_limits<int>::max();

struct Span {
    size_t buffer = 0;
    uint64_t offset = 0, bytes = 0;
};

// Free memory in a growing number of buffers. The smallest gap that is large enough is taken, else a buffer grows.
class FreeMemory {
  public:
    FreeMemory(uint64_t alignment, uint64_t max_end)
        : alignment_(alignment), max_end_(max_end / alignment * alignment) {}

    uint64_t aligned(uint64_t bytes) const { return (bytes + alignment_ - 1) / alignment_ * alignment_; }

    Span take(uint64_t bytes) {
        Span* best = nullptr;
        for (Span& gap : gaps_)
            if (gap.bytes >= bytes && (!best || gap.bytes < best->bytes)) best = &gap;
        if (best) {
            const Span out{best->buffer, best->offset, bytes};
            best->offset += bytes;
            best->bytes -= bytes;
            if (best->bytes == 0) gaps_.erase(gaps_.begin() + (best - gaps_.data()));
            return out;
        }
        for (size_t b = 0;; ++b) {
            if (b == ends_.size()) {
                ends_.push_back(0);
                peaks_.push_back(0);
            }
            if (ends_[b] > 0 && ends_[b] + bytes > max_end_) continue;
            const Span out{b, ends_[b], bytes};
            ends_[b] += bytes;
            peaks_[b] = std::max(peaks_[b], ends_[b]);
            return out;
        }
    }

    void give(Span span) {
        if (span.bytes == 0) return;
        const auto place = [](const Span& s) { return std::pair(s.buffer, s.offset); };
        auto next = std::lower_bound(gaps_.begin(), gaps_.end(), span,
                                     [&](const Span& a, const Span& b) { return place(a) < place(b); });
        if (next != gaps_.begin()) {
            const auto before = std::prev(next);
            if (before->buffer == span.buffer && before->offset + before->bytes == span.offset) {
                span.offset = before->offset;
                span.bytes += before->bytes;
                next = gaps_.erase(before);
            }
        }
        if (next != gaps_.end() && next->buffer == span.buffer && span.offset + span.bytes == next->offset) {
            span.bytes += next->bytes;
            next = gaps_.erase(next);
        }
        if (span.offset + span.bytes == ends_[span.buffer])
            ends_[span.buffer] = span.offset;  // the buffer's open end
        else
            gaps_.insert(next, span);
    }

    const std::vector<uint64_t>& peaks() const { return peaks_; }

  private:
    uint64_t alignment_, max_end_;
    std::vector<Span> gaps_;  // by buffer and offset
    std::vector<uint64_t> ends_, peaks_;
};

ggml_tensor* root_of(ggml_tensor* tensor) { return tensor->view_src ? tensor->view_src : tensor; }

// Operations whose kernels may write their result over an operand of the same layout.
bool may_overwrite(const ggml_tensor* node) {
    switch (node->op) {
        case GGML_OP_ADD:
        case GGML_OP_SUB:
        case GGML_OP_MUL:
        case GGML_OP_DIV:
        case GGML_OP_SCALE:
        case GGML_OP_SQR:
        case GGML_OP_SQRT:
        case GGML_OP_LOG:
        case GGML_OP_UNARY:
        case GGML_OP_ROPE:
        case GGML_OP_RMS_NORM:
        case GGML_OP_SOFT_MAX:
            return true;
        default:
            return false;
    }
}

bool same_layout(const ggml_tensor* a, const ggml_tensor* b) {
    return a->type == b->type && std::equal(std::begin(a->ne), std::end(a->ne), std::begin(b->ne)) &&
           std::equal(std::begin(a->nb), std::end(a->nb), std::begin(b->nb));
}

}  // namespace

GraphLayout::GraphLayout(ggml_cgraph* graph, ggml_backend_buffer_type_t buffers) {
    struct Value {
        int last = -1;  // the last node that reads or writes it
        bool placed = false;
        Span span;
    };
    std::unordered_map<const ggml_tensor*, Value> values;  // only values that get memory here
    const int count = ggml_graph_n_nodes(graph);
    std::unordered_map<const ggml_tensor*, bool> seen;
    const auto meet = [&](ggml_tensor* tensor, int node) {
        ggml_tensor* root = root_of(tensor);
        if (tensor->view_src && seen.try_emplace(tensor, true).second) views_.push_back(tensor);
        if (root->data || root->buffer) return;
        int& last = values[root].last;
        last = tensor->flags & GGML_TENSOR_FLAG_OUTPUT || last == kept ? kept : node;
    };
    for (int i = 0; i < count; ++i) {
        ggml_tensor* node = ggml_graph_node(graph, i);
        for (ggml_tensor* source : node->src)
            if (source) meet(source, i);
        meet(node, i);
    }

    FreeMemory memory(ggml_backend_buft_get_alignment(buffers), ggml_backend_buft_get_max_size(buffers));
    const auto size_of = [&](const ggml_tensor* tensor) {
        return memory.aligned(ggml_backend_buft_get_alloc_size(buffers, tensor));
    };
    const auto value_of = [&](ggml_tensor* tensor) -> Value* {
        const auto found = tensor ? values.find(root_of(tensor)) : values.end();
        return found == values.end() ? nullptr : &found->second;
    };
    const auto place = [&](ggml_tensor* tensor, Value& value, const Span& span) {
        value.placed = true;
        value.span = span;
        places_.push_back({tensor, span.buffer, span.offset});
    };
    // The value that `node` may be written over, since nothing else reads it any more.
    const auto operand_to_overwrite = [&](ggml_tensor* node, int i, uint64_t bytes) -> Value* {
        for (ggml_tensor* source : node->src) {
            Value* value = value_of(source);
            if (!value || !value->placed || value->last != i || !same_layout(node, source)) continue;
            const ggml_tensor* root = root_of(source);
            const auto reads = std::count_if(std::begin(node->src), std::end(node->src),
                                             [&](ggml_tensor* other) { return other && root_of(other) == root; });
            if (reads == 1 && source->view_offs == 0 && value->span.bytes >= bytes) return value;
        }
        return nullptr;
    };
    const auto finish = [&](Value* value, int i) {
        if (!value || value->last != i || !value->placed) return;
        memory.give(value->span);
        value->placed = false;
    };
    for (int i = 0; i < count; ++i) {
        ggml_tensor* node = ggml_graph_node(graph, i);
        for (ggml_tensor* source : node->src)
            if (Value* value = value_of(source); value && !value->placed)
                place(root_of(source), *value, memory.take(size_of(root_of(source))));
        if (Value* value = value_of(node); value && !value->placed) {
            ggml_tensor* root = root_of(node);
            const uint64_t bytes = size_of(root);
            Value* over = root == node && may_overwrite(node) ? operand_to_overwrite(node, i, bytes) : nullptr;
            if (over) {
                const Span whole = over->span;
                over->placed = false;
                place(root, *value, {whole.buffer, whole.offset, bytes});
                memory.give({whole.buffer, whole.offset + bytes, whole.bytes - bytes});
            } else {
                place(root, *value, memory.take(bytes));
            }
        }
        for (ggml_tensor* source : node->src) finish(value_of(source), i);
        finish(value_of(node), i);
    }
    buffer_bytes_ = memory.peaks();
}

uint64_t GraphLayout::bytes() const { return std::accumulate(buffer_bytes_.begin(), buffer_bytes_.end(), uint64_t{0}); }

bool GraphLayout::apply(const std::vector<ggml_backend_buffer_t>& buffers) const {
    for (const Place& place : places_) {
        auto* start = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffers.at(place.buffer)));
        if (ggml_backend_tensor_alloc(buffers[place.buffer], place.tensor, start + place.offset) != GGML_STATUS_SUCCESS)
            return false;
    }
    for (ggml_tensor* view : views_)
        if (!view->buffer && view->view_src->buffer && ggml_backend_view_init(view) != GGML_STATUS_SUCCESS)
            return false;
    return true;
}

}  // namespace sdcpp
