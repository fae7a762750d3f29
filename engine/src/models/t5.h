// T5's encoder (Raffel et al. 2020) in its gated form, T5 v1.1 (Shazeer 2020).
#pragma once

#include "models/text_encoder.h"

namespace sdcpp {

// Values in: "x" [N, T, C] embeddings, "buckets" i32 [T * T]: how far each token's key is from its query, in classes.
// Out: "x" [N, T, C].
class T5 : public TextEncoder {
  public:
    explicit T5(const ModelFiles& files);

    bool wide_range() const override { return true; }  // feed-forward outputs pass f16's range
    Traits traits() const override { return {"t5", 0, vocabulary_, width_, layers_, 0}; }
    std::vector<Array> inputs(std::span<const int32_t> tokens, int64_t rows, bool hides_padding) const override;
    Selection select(const Wanted& wanted) const override { return select_layers(wanted, 1); }

  private:
    int64_t width_, vocabulary_, buckets_;
    int layers_, longest_distance_;
};

}  // namespace sdcpp
