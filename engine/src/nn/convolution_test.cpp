// The ways in which convolutions are computed.
#include <doctest/doctest.h>

#include "tests/computed.h"

using namespace sdcpp;

TEST_CASE("unrolled convolutions equal direct ones") {
    for (const int kernel : {1, 3})
        for (const int stride : {1, 2})
            for (const int padding : {0, kernel / 2})
                for (const int64_t batch : {1, 3})
                    for (const size_t patch_bytes : {size_t{1}, size_t{4000}, size_t{1} << 20}) {
                        const auto with = [&](bool unrolled) {
                            Kernels kernels;
                            kernels.patch_bytes = patch_bytes;
                            return computed(kernels, 2, [&](Graph& g, std::vector<ggml_tensor*>& given) {
                                given = {ggml_new_tensor_4d(g.context, GGML_TYPE_F32, kernel, kernel, 5, 7),
                                         ggml_new_tensor_4d(g.context, GGML_TYPE_F32, 10, 9, 5, batch)};
                                return unrolled ? unrolled_convolution(g, given[0], given[1], stride, padding)
                                                : ggml_conv_2d_direct(g.context, given[0], given[1], stride, stride,
                                                                      padding, padding, 1, 1);
                            });
                        };
                        CHECK_MESSAGE(largest_difference(with(true), with(false)) < 1e-4f, "convolutions agree");
                    }
}
