#include "models/clip.h"

#include <algorithm>

#include "base/error.h"
#include "models/clip_layer.h"
#include "models/masks.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr int32_t end_of_text = 49407;

}  // namespace

ClipText::ClipText(const ModelFiles& files, const Sort& sort) : TextEncoder(files, sort.name), padding_(sort.padding) {
    const Scope s = root();
    const Json& config = files.config()[sort.config];
    vocabulary_ = s.side("embeddings.token_embedding.weight", 0);
    width_ = s.side("embeddings.token_embedding.weight", 1);
    positions_ = s.side("embeddings.position_embedding.weight", 0);
    layers_ = (s / "encoder").count("layers");
    const int heads =
        per_level(config.integers("num_attention_heads"), 0, static_cast<int>(std::max<int64_t>(1, width_ / 64)));
    if (layers_ == 0) fail(SDCPP_MISSING_PART, "the text encoder has no layers (", name(), ".encoder.layers)");
    if (heads < 1 || width_ % heads != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a text encoder of width ", width_, " with ", heads, " heads");
    const ClipActivation activation = clip_activation(config.string_or("hidden_act", sort.activation));
    projected_width_ = ClipProjection::width_of(s, "text_projection");

    declare_embeddings(s, "embeddings.token_embedding.weight", vocabulary_, width_);
    stage("embeddings", [&] {
        const Weight* positions =
            s.weight("embeddings.position_embedding.weight", WeightKind::vector, {positions_, width_});
        return [=](Graph& g, Values& v) { v["x"] = ggml_add(g.context, v.at("x"), positions->tensor); };
    });
    for (int i = 0; i < layers_; ++i) {
        stage("layers." + std::to_string(i), [&] {
            return [layer = ClipLayer(s / "encoder.layers" / i, width_, heads, activation)](Graph& g, Values& v) {
                v["x"] = layer(g, v.at("x"), v.at("mask"));
            };
        });
        const std::string kept = "states." + std::to_string(i + 1);
        stage(kept, [&] { return [kept](Graph&, Values& v) { v[kept] = v.at("x"); }; });
    }
    stage("final_layer_norm", [&] {
        return [norm = LayerNorm(s / "final_layer_norm", width_)](Graph& g, Values& v) { v["x"] = norm(g, v.at("x")); };
    });
    stage("last_state",
          [] { return [](Graph& g, Values& v) { v["pooled"] = ggml_get_rows(g.context, v.at("x"), v.at("ends")); }; });
    if (projected_width_ > 0)
        stage("text_projection", [&] {
            return [project = ClipProjection(s, "text_projection", width_, projected_width_)](Graph& g, Values& v) {
                v["pooled"] = project(g, v.at("pooled"));
            };
        });
}

TextEncoder::Traits ClipText::traits() const { return {"clip", positions_, vocabulary_, width_, layers_, padding_}; }

std::vector<Array> ClipText::inputs(std::span<const int32_t> tokens, int64_t rows, bool) const {
    std::vector<int32_t> ends;
    for (int64_t row = 0; row < rows; ++row) {
        const auto text = tokens.subspan(static_cast<size_t>(row * positions_), static_cast<size_t>(positions_));
        const auto end = std::find(text.begin(), text.end(), end_of_text);
        ends.push_back(static_cast<int32_t>(end == text.end() ? positions_ - 1 : end - text.begin()));
    }
    return {Array::of("x", {rows, positions_, width_}, embedded(tokens)), causal_mask(positions_),
            Array::of("ends", {rows, 1}, std::move(ends))};
}

Selection ClipText::select(const Wanted& wanted) const {
    const bool pooled = wanted.pooled != Pooled::no;
    const int fewest =
        wanted.layers_off.empty() ? 0 : *std::min_element(wanted.layers_off.begin(), wanted.layers_off.end());
    const int last = pooled ? layers_ : layers_ - fewest;
    Selection out{{0}, {}};
    for (const int off : wanted.layers_off) {
        const int kept = layers_ - off;
        const bool as_they_leave = kept == last && (wanted.normed || !pooled);
        if (wanted.normed && (!as_they_leave || wanted.layers_off.size() > 1))
            fail(SDCPP_INTERNAL, "only the states that leave ", name(), " are normed");
        out.results.push_back(as_they_leave ? "x" : "states." + std::to_string(kept));
    }
    for (int layer = 0; layer < last; ++layer) {
        out.stages.push_back(stage_of(layer));
        const std::string kept = "states." + std::to_string(layer + 1);
        if (std::find(out.results.begin(), out.results.end(), kept) != out.results.end())
            out.stages.push_back(stage_of(layer) + 1);
    }
    if (wanted.normed || pooled) out.stages.push_back(stage_of(layers_));
    if (!pooled) return out;
    out.stages.push_back(stage_of(layers_) + 1);
    if (wanted.pooled == Pooled::projected) {
        if (projected_width_ == 0)
            fail(SDCPP_MISSING_PART, "the text encoder ", name(),
                 " lacks its text_projection; give a file that has it");
        out.stages.push_back(stage_of(layers_) + 2);
    }
    out.results.emplace_back("pooled");
    return out;
}

}  // namespace sdcpp
