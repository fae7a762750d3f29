#include "models/upscaler.h"

namespace sdcpp {

ggml_tensor* pixel_shuffle(Graph& g, ggml_tensor* x, int64_t factor) {
    if (factor == 1) return x;
    ggml_context* c = g.context;
    const int64_t width = x->ne[0], height = x->ne[1], channels = x->ne[2] / (factor * factor);
    // pixels of a row side by side: [C i, W H, j] to [C i, W H j]
    x = ggml_reshape_4d(c, x, width * height, factor, factor * channels, 1);
    x = ggml_cont(c, ggml_permute(c, x, 1, 0, 2, 3));
    // rows one below the other: [C, i, H, W j] to [C, H, i, W j]
    x = ggml_reshape_4d(c, x, width * factor, height, factor, channels);
    x = ggml_cont(c, ggml_permute(c, x, 0, 2, 1, 3));
    return ggml_reshape_4d(c, x, width * factor, height * factor, channels, 1);
}

ggml_tensor* pixel_unshuffle(Graph& g, ggml_tensor* x, int64_t factor) {
    if (factor == 1) return x;
    ggml_context* c = g.context;
    const int64_t width = x->ne[0] / factor, height = x->ne[1] / factor, channels = x->ne[2];
    x = ggml_reshape_4d(c, x, width * factor, factor, height, channels);
    x = ggml_cont(c, ggml_permute(c, x, 0, 2, 1, 3));
    x = ggml_reshape_4d(c, x, factor, width * height, factor * channels, 1);
    x = ggml_cont(c, ggml_permute(c, x, 1, 0, 2, 3));
    return ggml_reshape_4d(c, x, width, height, channels * factor * factor, 1);
}

}  // namespace sdcpp
