// Places of a graph's values: random graphs give the same numbers as with memory of its own for each value, in no more
// memory than ggml's allocator takes.
#include "runtime/graph_layout.h"

#include <doctest/doctest.h>
#include <ggml-alloc.h>

#include <atomic>
#include <random>

#include "device/device.h"
#include "nn/context.h"

using namespace sdcpp;

namespace {

constexpr int64_t side = 8;

struct Made {
    Context context{4 << 20};
    ggml_tensor *input = nullptr, *out = nullptr;
    ggml_cgraph* graph = nullptr;
};

// The same graph for the same seed. The input has its memory already, as values between stages have.
Made random_graph(unsigned seed) {
    Made made;
    ggml_context* c = made.context.get();
    std::mt19937 random(seed);
    made.input = ggml_new_tensor_2d(c, GGML_TYPE_F32, side, side);
    std::vector<ggml_tensor*> known = {made.input};
    const auto one = [&] { return known[random() % known.size()]; };
    for (int i = 0; i < 40; ++i) {
        ggml_tensor* a = one();
        switch (random() % 8) {
            case 0:
                known.push_back(ggml_add(c, a, one()));
                break;
            case 1:
                known.push_back(ggml_mul(c, a, one()));
                break;
            case 2:
                known.push_back(ggml_scale(c, a, 0.5f));
                break;
            case 3:
                known.push_back(ggml_cont(c, ggml_transpose(c, a)));
                break;
            case 4:
                known.push_back(ggml_soft_max(c, a));
                break;
            case 5:
                known.push_back(ggml_reshape_2d(c, ggml_view_1d(c, a, side * side, 0), side, side));
                break;
            case 6:
                known.push_back(ggml_add(c, a, ggml_view_2d(c, one(), side, 1, side * sizeof(float), 0)));
                break;
            default:
                known.push_back(ggml_mul_mat(c, ggml_scale(c, a, 0.1f), one()));
        }
        if (random() % 3 == 0 && known.size() > 3) known.erase(known.begin() + 1);  // values that are read early only
    }
    made.out = ggml_add(c, known.back(), one());
    ggml_set_output(made.out);
    made.graph = ggml_new_graph(c);
    ggml_build_forward_expand(made.graph, made.out);
    return made;
}

}  // namespace

TEST_CASE("a laid out graph gives the numbers of one whose values all have memory of their own") {
    const std::atomic<bool> cancelled{false};
    Device device("CPU", 1, &cancelled);
    const ggml_backend_buffer_type_t type = device.buffer_type();
    std::vector<float> values(side * side), expected(side * side), found(side * side);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) - 3;
    for (unsigned seed = 0; seed < 300; ++seed) {
        const Made apart = random_graph(seed), together = random_graph(seed), measured = random_graph(seed);
        const ggml_backend_buffer_ptr own(ggml_backend_alloc_ctx_tensors_from_buft(apart.context.get(), type));
        ggml_backend_tensor_set(apart.input, values.data(), 0, ggml_nbytes(apart.input));
        device.compute(apart.graph);
        ggml_backend_tensor_get(apart.out, expected.data(), 0, ggml_nbytes(apart.out));

        const ggml_backend_buffer_ptr given(ggml_backend_buft_alloc_buffer(type, ggml_nbytes(together.input)));
        REQUIRE(ggml_backend_tensor_alloc(given.get(), together.input, ggml_backend_buffer_get_base(given.get())) ==
                GGML_STATUS_SUCCESS);
        const GraphLayout layout(together.graph, type);
        REQUIRE(layout.buffer_bytes().size() == 1);
        const ggml_backend_buffer_ptr shared(ggml_backend_buft_alloc_buffer(type, layout.bytes()));
        REQUIRE(layout.apply({shared.get()}));
        ggml_backend_tensor_set(together.input, values.data(), 0, ggml_nbytes(together.input));
        device.compute(together.graph);
        ggml_backend_tensor_get(together.out, found.data(), 0, ggml_nbytes(together.out));
        CHECK_MESSAGE(found == expected, "graph ", seed);

        measured.input->data = reinterpret_cast<void*>(uintptr_t{64});
        const ggml_gallocr_ptr theirs(ggml_gallocr_new(type));
        size_t bytes = 0;
        ggml_gallocr_reserve_n_size(theirs.get(), measured.graph, nullptr, nullptr, &bytes);
        CHECK_MESSAGE(layout.bytes() <= bytes, "graph ", seed);
    }
}
