#include "models/clip_vision.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "models/clip_layer.h"
#include "models/transformer_parts.h"

namespace sdcpp {
namespace {

// Patches of the picture as tokens, the class's token before them, and each place's own vector.
struct VisionEmbeddings {
    const Weight* class_embedding;
    Conv2d patch_embedding;
    const Weight* positions;

    VisionEmbeddings(const Scope& s, int64_t width, int64_t patch, int64_t tokens)
        : class_embedding(s.weight("class_embedding", WeightKind::vector, {width})),
          patch_embedding(s / "patch_embedding", 3, width, static_cast<int>(patch), static_cast<int>(patch), 0),
          positions(s.weight("position_embedding.weight", WeightKind::vector, {tokens, width})) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* picture) const {
        ggml_context* c = g.context;
        ggml_tensor* patches = to_tokens(g, patch_embedding(g, picture));
        ggml_tensor* first = ggml_repeat_4d(c, class_embedding->tensor, patches->ne[0], 1, patches->ne[2], 1);
        return ggml_add(c, ggml_concat(c, first, patches, 1), positions->tensor);
    }
};

// Heads are not in the tensors. Released models below this width have heads of 64, the others have 16 heads.
constexpr int64_t width_of_sixteen_heads = 1024;
// OpenAI's models, which are no wider, have another activation than open_clip's.
constexpr int64_t widest_of_openai = 1024;

int64_t whole_root(int64_t square) {
    const auto root = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(square))));
    return root * root == square ? root : 0;
}

}  // namespace

ClipVision::ClipVision(const ModelFiles& files) : Network(files, "clip_vision") {
    const Scope s = root(), vision = s / "vision_model", embeddings = vision / "embeddings";
    const Json& config = files.config()["clip_vision"];
    width_ = embeddings.side("patch_embedding.weight", 0);
    const int64_t patch = embeddings.side("patch_embedding.weight", 2);
    tokens_ = embeddings.side("position_embedding.weight", 0);
    const int64_t across = whole_root(tokens_ - 1);
    if (across < 1 || patch < 1)
        fail(SDCPP_UNSUPPORTED_MODEL, "a CLIP vision encoder of ", tokens_,
             " positions; one for the class and a square of patches are known");
    side_ = across * patch;
    layers_ = (vision / "encoder").count("layers");
    if (layers_ == 0) fail(SDCPP_MISSING_PART, "the CLIP vision encoder has no layers");
    const auto usual = static_cast<int>(width_ < width_of_sixteen_heads ? std::max<int64_t>(1, width_ / 64) : 16);
    const int heads = per_level(config.integers("num_attention_heads"), 0, usual);
    if (heads < 1 || width_ % heads != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a CLIP vision encoder of width ", width_, " with ", heads,
             R"( heads; give the right "num_attention_heads" in a config.json beside its file)");
    const ClipActivation activation =
        clip_activation(config.string_or("hidden_act", width_ <= widest_of_openai ? "quick_gelu" : "gelu"));
    projected_width_ = ClipProjection::width_of(s, "visual_projection");
    if (projected_width_ == 0)
        fail(SDCPP_MISSING_PART, "the CLIP vision encoder lacks its visual_projection; give a file that has it");

    stage("embeddings", [&] {
        return [layer = VisionEmbeddings(embeddings, width_, patch, tokens_),
                norm = LayerNorm(vision / "pre_layrnorm", width_)](Graph& g, Values& v) {  // spelled so in the files
            v["x"] = norm(g, layer(g, v.at("x")));
        };
    });
    for (int i = 0; i < layers_; ++i)
        stage("layers." + std::to_string(i), [&] {
            return [layer = ClipLayer(vision / "encoder.layers" / i, width_, heads, activation)](Graph& g, Values& v) {
                v["x"] = layer(g, v.at("x"));
            };
        });
    stage("visual_projection", [&] {
        return [norm = LayerNorm(vision / "post_layernorm", width_),
                project = ClipProjection(s, "visual_projection", width_, projected_width_)](Graph& g, Values& v) {
            v["x"] = project(g, norm(g, tokens_of(g, v.at("x"), 0, 1)));
        };
    });
}

Selection ClipVision::select(Output output) const {
    const size_t all = stages().size();
    Selection out;
    out.stages.resize(output == Output::vector ? all : all - 2);
    std::iota(out.stages.begin(), out.stages.end(), size_t{0});
    return out;
}

}  // namespace sdcpp
