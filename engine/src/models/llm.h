// A decoder-only language model as a text encoder: Qwen3's shape (Qwen team 2025), and Qwen2's, which has biases in
// place of the norms of queries and keys.
#pragma once

#include "models/text_encoder.h"

namespace sdcpp {

// Values in: "x" [N, T, C] embeddings, "mask" f16 [T, T], "positions" i32 [T]. Out: "x" [N, T, C] the hidden states,
// "states.K" [N, T, C] those of K layers.
class Llm : public TextEncoder {
  public:
    // `rotary_base`: of its positions, if its config does not say.
    explicit Llm(const ModelFiles& files, double rotary_base = 1e6);

    // The base that a language model's config names; 0: none.
    static double rotary_base_of(const Json& config);

    // A few channels of the residual pass the largest f16. Keys and values are made of a normed input.
    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }
    Traits traits() const override;
    std::vector<Array> inputs(std::span<const int32_t> tokens, int64_t rows, bool hides_padding) const override;
    Selection select(const Wanted& wanted) const override { return select_layers(wanted, 0); }

  private:
    static constexpr int32_t padding = 151643;  // "<|endoftext|>"; at a text's end no token sees it

    int64_t width_, vocabulary_;
    int layers_;
};

}  // namespace sdcpp
