#include "runtime/flow.h"

#include <ggml-backend.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "runtime/graph_layout.h"

namespace sdcpp {
namespace {

constexpr size_t max_nodes = 1 << 15;                            // a stage's
void* const somewhere = reinterpret_cast<void*>(uintptr_t{64});  // makes a layout take a tensor as placed

void put(ggml_tensor* tensor, const Address& address) {
    if (!address.buffer)
        tensor->data = somewhere;
    else if (ggml_backend_tensor_alloc(address.buffer, tensor, address.data) != GGML_STATUS_SUCCESS)
        fail(SDCPP_INTERNAL, "a value cannot be placed on the device");
}

ggml_tensor* placeholder(ggml_context* context, const Carry& carry, const Address& address) {
    ggml_tensor* tensor = ggml_new_tensor(context, carry.type, GGML_MAX_DIMS, carry.ne.data());
    put(tensor, address);
    return tensor;
}

// Visits what `tensor` is computed from, not going beyond `stop`.
void walk(ggml_tensor* tensor, const std::set<const ggml_tensor*>& stop, std::set<const ggml_tensor*>& seen) {
    std::vector<const ggml_tensor*> open = {tensor};
    while (!open.empty()) {
        const ggml_tensor* t = open.back();
        open.pop_back();
        if (!t || !seen.insert(t).second || stop.contains(t)) continue;
        open.insert(open.end(), std::begin(t->src), std::end(t->src));
        open.push_back(t->view_src);
    }
}

}  // namespace

double operations(const ggml_tensor* t) {
    const auto elements = static_cast<double>(ggml_nelements(t));
    switch (t->op) {
        case GGML_OP_MUL_MAT:
            return 2 * elements * static_cast<double>(t->src[0]->ne[0]);
        case GGML_OP_CONV_2D:
            return 2 * elements * static_cast<double>(t->src[0]->ne[0] * t->src[0]->ne[1] * t->src[0]->ne[2]);
        case GGML_OP_FLASH_ATTN_EXT:
            return 4 * elements * static_cast<double>(t->src[1]->ne[1]);
        default:
            return elements;
    }
}

size_t Flow::add_carry(const ggml_tensor* tensor, int born) {
    Carry carry;
    carry.type = tensor->type;
    std::copy(std::begin(tensor->ne), std::end(tensor->ne), carry.ne.begin());
    carry.bytes = ggml_row_size(tensor->type, tensor->ne[0]) *
                  static_cast<uint64_t>(tensor->ne[1] * tensor->ne[2] * tensor->ne[3]);
    carry.born = born;
    carries_.push_back(carry);
    return carries_.size() - 1;
}

Flow::Flow(const Network& network, const Kernels& kernels, const Selection& selection, const std::vector<Array>& inputs,
           int64_t batch)
    : network_(network), kernels_(kernels), stages_(selection.stages) {
    Names names;
    {
        const Context context(max_nodes * ggml_tensor_overhead());
        for (const Array& input : inputs) {
            std::array<int64_t, GGML_MAX_DIMS> ne = {1, 1, 1, 1};
            if (input.shape.empty() || input.shape.size() > ne.size())
                fail(SDCPP_INTERNAL, "the input ", input.name, " of ", network_.name(), " has ", input.shape.size(),
                     " sides; networks fold theirs to 1 to 4");
            std::copy(input.shape.rbegin(), input.shape.rend(), ne.begin());
            if (!input.shared) ne[input.shape.size() - 1] = batch;
            input_carries_.push_back(
                add_carry(ggml_new_tensor(context.get(), input.type, GGML_MAX_DIMS, ne.data()), -1));
            names[input.name] = input_carries_.back();
        }
    }
    before_.push_back(names);
    for (size_t i = 0; i < stages_.size(); ++i) {
        const Context context(max_nodes * ggml_tensor_overhead());
        CustomOperations custom;
        Graph graph{context.get(), kernels_, custom, network_.wide_range(), network_.wide_attention()};
        Values values;
        std::map<const ggml_tensor*, size_t> known;
        std::set<const ggml_tensor*> given, seen;
        std::map<size_t, ggml_tensor*> holders;  // two names may stand for one value
        for (const auto& [name, carry] : before_.back()) {
            ggml_tensor*& tensor = holders[carry];
            if (!tensor) tensor = placeholder(context.get(), carries_[carry], {});
            known[tensor] = carry;
            given.insert(tensor);
            values[name] = tensor;
        }
        network_.stages().at(stages_[i]).build(graph, values);
        Names after;
        for (const auto& [name, tensor] : values) {
            if (!known.contains(tensor)) {
                walk(tensor, given, seen);
                known[tensor] = add_carry(tensor, static_cast<int>(i));
            }
            after[name] = known[tensor];
        }
        double sum = 0;
        for (const auto& operation : custom) {
            sum += operation->flops;
            scratch_bytes_ = std::max(scratch_bytes_, operation->scratch_bytes(kernels_.threads));
        }
        for (const ggml_tensor* tensor : seen) {
            if (kernels_.pool_bytes) scratch_bytes_ = std::max(scratch_bytes_, kernels_.pool_bytes(tensor));
            if (given.contains(tensor))
                carries_[known[tensor]].last_use = static_cast<int>(i);
            else if (tensor->op != GGML_OP_NONE && tensor->op != GGML_OP_CUSTOM)
                sum += operations(tensor);
        }
        flops_.push_back(sum);
        context_bytes_.push_back(ggml_used_mem(context.get()));
        before_.push_back(std::move(after));
    }
    for (const std::string& name : selection.results) {
        results_.push_back(before_.back().at(name));
        carries_[results_.back()].last_use = static_cast<int>(stages_.size());
    }
    for (const Tap& tap : selection.taps) {
        const auto at = std::find(stages_.begin(), stages_.end(), tap.stage);
        if (at == stages_.end()) fail(SDCPP_INTERNAL, "a value of a stage that does not run is wanted");
        const auto place = static_cast<size_t>(at - stages_.begin());
        results_.push_back(before_[place + 1].at(tap.value));
        carries_[results_.back()].last_use = static_cast<int>(stages_.size());
        taps_.emplace(place, TapHere{tap.value, results_.back()});
    }
}

SegmentGraph Flow::build(size_t first, size_t last, const std::function<Address(size_t)>& place) const {
    SegmentGraph out;
    // in addition to the stages' own tensors: a mark for each, and copies of views that leave
    size_t bytes =
        (last - first + 1 + before_[last + 1].size() + before_[first].size() + taps_.size()) * ggml_tensor_overhead();
    for (size_t i = first; i <= last; ++i) bytes += context_bytes_[i];
    out.tensors = Context(bytes);
    ggml_context* context = out.tensors.get();
    Graph graph{context, kernels_, out.custom, network_.wide_range(), network_.wide_attention()};
    Values values;
    std::map<size_t, ggml_tensor*> holders;
    for (const auto& [name, carry] : before_[first]) {
        ggml_tensor*& tensor = holders[carry];
        const bool read = carries_[carry].last_use >= static_cast<int>(first);  // else it is looked up, but not used
        if (!tensor) tensor = placeholder(context, carries_[carry], read ? place(carry) : Address{});
        values[name] = tensor;
    }
    std::map<size_t, ggml_tensor*> made;
    const auto leave = [&](size_t carry, ggml_tensor* tensor) {
        const Carry& c = carries_[carry];
        if (c.born < static_cast<int>(first) || c.last_use <= static_cast<int>(last) || made.contains(carry)) return;
        if (tensor->view_src) tensor = ggml_set_name(ggml_cont(context, tensor), tensor->name);
        put(tensor, place(carry));
        ggml_set_output(tensor);  // backends fuse operations and leave out what nothing else reads
        made[carry] = tensor;
    };
    for (size_t i = first; i <= last; ++i) {
        const Stage& stage = network_.stages().at(stages_[i]);
        ggml_tensor* mark = ggml_new_tensor_1d(context, GGML_TYPE_F32, 1);
        stage.build(graph, values);
        while ((mark = ggml_get_next_tensor(context, mark))) ggml_set_name(mark, stage.name.c_str());
        const auto [some, none] = taps_.equal_range(i);
        for (auto tap = some; tap != none; ++tap) leave(tap->second.carry, values.at(tap->second.value));
    }

    for (const auto& [name, carry] : before_[last + 1]) leave(carry, values.at(name));
    size_t nodes = 16;
    for (ggml_tensor* t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) ++nodes;
    nodes += network_.weights().all().size();
    out.graph_memory = Context(ggml_graph_overhead_custom(nodes, false) + 1024);
    out.graph = ggml_new_graph_custom(out.graph_memory.get(), nodes, false);
    for (const auto& [carry, tensor] : made) ggml_build_forward_expand(out.graph, tensor);
    return out;
}

UnionBytes Flow::extent(size_t first, size_t last, ggml_backend_buffer_type_t buffers) const {
    UnionBytes out;
    const SegmentGraph graph = build(first, last, [](size_t) { return Address{}; });
    out.compute = GraphLayout(graph.graph, buffers).bytes() + scratch_bytes_;
    for (const Carry& carry : carries_) {
        const bool before = carry.born<static_cast<int>(first), after = carry.last_use> static_cast<int>(last);
        if (before && carry.last_use >= static_cast<int>(first)) out.carry_in += carry.bytes;
        if (!before && carry.born <= static_cast<int>(last) && after) out.carry_out += carry.bytes;
    }
    return out;
}

}  // namespace sdcpp
