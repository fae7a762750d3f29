#include "nn/custom.h"

#include <algorithm>
#include <array>
#include <exception>

#include "base/error.h"

namespace sdcpp::cpu {

void CpuOperation::share(const ggml_tensor* out, int thread, int threads) const noexcept {
    prepare_for_exceptions();
    try {
        run(out, units * thread / threads, units * (thread + 1) / threads);
    } catch (const std::exception&) {  // memory; no exception may cross ggml
        if (failed_) failed_->store(true);
    }
}

uint64_t CpuOperation::scratch_bytes(int threads) const {
    const int64_t sharing = std::min<int64_t>(threads, units);
    if (sharing == 0) return 0;
    const int64_t floats = scratch_floats(blocks(units, sharing));
    return floats == 0 ? 0 : static_cast<uint64_t>((floats + Gemm::Scratch::padding) * sharing) * sizeof(float);
}

int64_t even_block(int64_t total, int64_t most, int64_t others) {
    int64_t count = blocks(total, most);
    while (count * others < 16 && count * others % 4 != 0 && total > 64 * count) ++count;
    return blocks(blocks(total, count), 16) * 16;
}

ggml_tensor* add_operation(Graph& g, std::unique_ptr<CpuOperation> operation, std::initializer_list<int64_t> ne,
                           std::initializer_list<ggml_tensor*> sources) {
    std::array<int64_t, GGML_MAX_DIMS> sides = {1, 1, 1, 1};
    std::copy(ne.begin(), ne.end(), sides.begin());
    std::array<ggml_tensor*, GGML_MAX_SRC> given{};
    int count = 0;
    for (ggml_tensor* source : sources)
        if (source) given[static_cast<size_t>(count++)] = source;
    ggml_tensor* out = ggml_custom_4d(
        g.context, GGML_TYPE_F32, sides[0], sides[1], sides[2], sides[3], given.data(), count,
        [](ggml_tensor* result, int thread, int threads, void* work) {
            static_cast<const CpuOperation*>(work)->share(result, thread, threads);
        },
        GGML_N_TASKS_MAX, operation.get());
    operation->result = out;
    g.custom.push_back(std::move(operation));
    return out;
}

}  // namespace sdcpp::cpu
