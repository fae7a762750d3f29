#include "runtime/profile.h"

#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace sdcpp {
namespace {

bool computes(const ggml_tensor* t) {
    switch (t->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return false;
        default:
            return !ggml_is_empty(t);
    }
}

double bytes_of(const ggml_tensor* t) {
    auto sum = static_cast<double>(ggml_nbytes(t));
    for (const ggml_tensor* source : t->src)
        if (source) sum += static_cast<double>(ggml_nbytes(source));
    return sum;
}

}  // namespace

void Profile::compute(Device& device, const std::string& network, const SegmentGraph& graph,
                      const std::function<bool()>& must_stop) {
    std::map<const ggml_tensor*, const CustomOperation*> own;
    for (const auto& operation : graph.custom) own[operation->result] = operation.get();
    const Context memory(ggml_graph_overhead_custom(1, false) + 1024);
    ggml_cgraph* one = ggml_new_graph_custom(memory.get(), 1, false);
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph); ++i) {
        ggml_tensor* node = ggml_graph_node(graph.graph, i);
        if (!computes(node)) continue;
        ggml_graph_clear(one);
        ggml_graph_add_node(one, node);
        const auto start = Clock::now();
        device.compute(one, must_stop);
        const double seconds = seconds_since(start);
        const auto found = own.find(node);
        const CustomOperation* operation = found == own.end() ? nullptr : found->second;
        Key key(network, ggml_get_name(node), operation ? operation->kind() : ggml_op_desc(node));
        const auto [at, fresh] = known_.try_emplace(key, rows_.size());
        if (fresh) rows_.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key)});
        ProfileRow& row = rows_[at->second];
        ++row.runs;
        row.seconds += seconds;
        row.flops += operation ? operation->flops : operations(node);
        row.bytes += bytes_of(node);
    }
}

std::vector<ProfileRow> Profile::take() {
    known_.clear();
    return std::exchange(rows_, {});
}

}  // namespace sdcpp
