// The ways in which attention is computed.
#include <doctest/doctest.h>

#include "tests/computed.h"

using namespace sdcpp;

// Tiles of scores, heads padded with zeros and keys rounded ahead give the plain flash kernel's numbers.
TEST_CASE("ways of attention agree") {
    const auto with = [](const Kernels& kernels) {
        return computed(kernels, 3, [](Graph& g, std::vector<ggml_tensor*>& given) {
            for (const int64_t tokens : {17, 20, 20})
                given.push_back(ggml_new_tensor_3d(g.context, GGML_TYPE_F32, 32, tokens, 2));
            given.push_back(ggml_new_tensor_2d(g.context, GGML_TYPE_F16, 20, 17));
            return attention(g, given[0], given[1], given[2], 4, given[3]);
        });
    };
    const auto expected = with({});
    Kernels tiles;
    tiles.score_tile_bytes = 3 * 20 * 4 * sizeof(float);  // three queries at a time
    tiles.supports = [](const ggml_tensor* op) { return op->op != GGML_OP_FLASH_ATTN_EXT; };
    CHECK(expected.size() == 32 * 17 * 2);
    CHECK_MESSAGE(largest_difference(with(tiles), expected) < 1e-5f, "tiled attention equals the flash kernel");
    Kernels padded;
    padded.fast_head_sizes = {16};
    CHECK_MESSAGE(largest_difference(with(padded), expected) < 1e-5f, "zeros in the heads change nothing");
    Kernels rounded;
    rounded.f16_attention = true;
    CHECK_MESSAGE(largest_difference(with(rounded), expected) < 5e-3f, "keys and values in f16 are close");
}
