// Small graphs computed on the processor, and how far results are apart.
#pragma once

#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "device/device.h"
#include "generation/rng.h"
#include "nn/layers.h"

namespace sdcpp {

// The result of `build` on the processor, with random numbers in its first tensors [0, inputs).
inline std::vector<float> computed(const Kernels& kernels, size_t inputs,
                                   const std::function<ggml_tensor*(Graph&, std::vector<ggml_tensor*>&)>& build) {
    const std::atomic<bool> cancelled{false};
    Device device("CPU", 1, &cancelled);
    const ggml_context_ptr context(ggml_init({4 << 20, nullptr, true}));
    CustomOperations custom;
    Graph g{context.get(), kernels, custom};
    std::vector<ggml_tensor*> given;
    ggml_tensor* out = build(g, given);
    ggml_cgraph* graph = ggml_new_graph_custom(g.context, 4096, false);
    ggml_build_forward_expand(graph, out);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(g.context, device.buffer_type()));
    const auto rng = make_rng("cuda", 1);
    for (size_t i = 0; i < inputs; ++i) {
        std::vector<float> values(static_cast<size_t>(ggml_nelements(given[i])));
        rng->normal(values);
        ggml_backend_tensor_set(given[i], values.data(), 0, ggml_nbytes(given[i]));
    }
    for (size_t i = inputs; i < given.size(); ++i) {  // masks that hide one key from each query
        std::vector<ggml_fp16_t> hidden(static_cast<size_t>(ggml_nelements(given[i])), ggml_fp32_to_fp16(0));
        for (int64_t row = 0; row < given[i]->ne[1]; ++row)
            hidden[static_cast<size_t>(row * given[i]->ne[0] + row)] =
                ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
        ggml_backend_tensor_set(given[i], hidden.data(), 0, ggml_nbytes(given[i]));
    }
    device.compute(graph);
    std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    return result;
}

inline float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return std::numeric_limits<float>::infinity();
    float worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    return worst;
}

}  // namespace sdcpp
