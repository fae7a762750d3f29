#include "runtime/executor.h"

#include <ggml-alloc.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "runtime/host_memory.h"

namespace sdcpp {
namespace {

constexpr size_t graph_nodes = 1 << 15;
constexpr size_t graphs_kept = 4;

}  // namespace

struct Executor::Built {
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
    std::vector<size_t> stages;
    ggml_context_ptr context;
    ggml_gallocr_ptr allocator;
    ggml_cgraph* graph = nullptr;
    std::vector<ggml_tensor*> inputs;
    ggml_tensor* output = nullptr;
    size_t workspace = 0;  // bytes
    bool ready = false;    // the workspace has been taken
};

Executor::Executor(Device& device, std::unique_ptr<Network> network, ggml_type wanted_type)
    : device_(device), network_(std::move(network)), wanted_type_(wanted_type) {}

Executor::~Executor() = default;

void Executor::load() {
    if (!weights_) weights_ = std::make_unique<ResidentWeights>(device_, *network_, wanted_type_);
}

Executor::Built& Executor::build(const std::vector<Input>& inputs, const std::vector<size_t>& stages) {
    load();
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
    for (const Input& input : inputs) shapes.emplace_back(input.name, input.shape);
    for (const auto& known : built_)
        if (known->shapes == shapes && known->stages == stages) return *known;
    if (built_.size() >= graphs_kept) built_.erase(built_.begin());

    auto made = std::make_unique<Built>();
    made->shapes = std::move(shapes);
    made->stages = stages;
    const size_t meta = graph_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(graph_nodes, false);
    made->context.reset(ggml_init({.mem_size = meta, .mem_buffer = nullptr, .no_alloc = true}));
    if (!made->context) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
    ggml_context* context = made->context.get();

    Values values;
    for (const Input& input : inputs) {
        std::array<int64_t, GGML_MAX_DIMS> ne = {1, 1, 1, 1};
        std::copy(input.shape.rbegin(), input.shape.rend(), ne.begin());
        ggml_tensor* tensor = ggml_new_tensor(context, input.type, static_cast<int>(input.shape.size()), ne.data());
        ggml_set_input(tensor);
        values[input.name] = tensor;
        made->inputs.push_back(tensor);
    }
    Graph graph{context, device_.kernels()};
    const auto& all = network_->stages();
    if (stages.empty())
        for (const Stage& stage : all) stage.build(graph, values);
    for (const size_t number : stages) all.at(number).build(graph, values);

    made->output = values.at("x");
    ggml_set_output(made->output);
    made->graph = ggml_new_graph_custom(context, graph_nodes, false);
    ggml_build_forward_expand(made->graph, made->output);
    // Measured with an allocator of its own: one that has measured believes it has allocated.
    const ggml_gallocr_ptr measure(ggml_gallocr_new(device_.buffer_type()));
    ggml_gallocr_reserve_n_size(measure.get(), made->graph, nullptr, nullptr, &made->workspace);
    made->allocator.reset(ggml_gallocr_new(device_.buffer_type()));
    return *built_.emplace_back(std::move(made));
}

Output Executor::run(const std::vector<Input>& inputs, const std::vector<size_t>& stages) {
    Built& built = build(inputs, stages);
    const bool fits = built.ready || !device_.is_cpu() || built.workspace < host_available_bytes();
    if (!fits || !ggml_gallocr_alloc_graph(built.allocator.get(), built.graph))
        fail(SDCPP_OUT_OF_MEMORY, network_->name(), " needs a workspace of ", built.workspace >> 20, " MiB on device ",
             device_.name(), ", which is not free; use a smaller picture, or vae_tiling for the decoder");
    built.ready = true;
    peak_workspace_ = std::max(peak_workspace_, built.workspace);
    for (size_t i = 0; i < inputs.size(); ++i) {
        if (built.inputs[i]->buffer)
            ggml_backend_tensor_set(built.inputs[i], inputs[i].data, 0, ggml_nbytes(built.inputs[i]));
    }
    device_.compute(built.graph);
    Output output;
    output.shape.assign(std::rbegin(built.output->ne), std::rend(built.output->ne));
    output.data.resize(static_cast<size_t>(ggml_nelements(built.output)));
    ggml_backend_tensor_get(built.output, output.data.data(), 0, ggml_nbytes(built.output));
    return output;
}

void Executor::release(bool weights) {
    built_.clear();
    if (weights) weights_.reset();
}

size_t Executor::take_peak_workspace() { return std::exchange(peak_workspace_, 0); }

}  // namespace sdcpp
