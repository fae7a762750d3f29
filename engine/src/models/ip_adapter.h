// IP-Adapters (Ye et al. 2023): what a CLIP vision encoder sees of a picture becomes tokens, and every cross-attention
// of a UNet attends to them as it does to the text's, by keys and values of their own.
#pragma once

#include "nn/network.h"

namespace sdcpp {

// The network that makes the keys and values; it runs once a picture, since no step changes them. Value in: "x", the
// picture's vector [N, 1, E] or, if takes_patches(), its patches' states [N, P, E]. Out: "key.I" and "value.I" [N, T,
// C] for each cross-attention, numbered as in the files.
class IpAdapter : public Network {
  public:
    explicit IpAdapter(const ModelFiles& files);

    enum class Kind {
        base,  // a linear layer makes a few tokens of the vector
        plus,  // learned tokens look at the patches (the Resampler)
        full   // two linear layers make a token of each patch
    };
    Kind kind() const { return kind_; }
    bool takes_patches() const { return kind_ != Kind::base; }
    int64_t input_width() const { return input_width_; }      // E
    int64_t context_width() const { return context_width_; }  // a token's
    // The width of each cross-attention, C.
    const std::vector<int64_t>& attentions() const { return attentions_; }
    // T, for so many tokens in.
    int64_t tokens(int64_t given) const { return kind_ == Kind::full ? given : tokens_; }

    static std::string key_name(size_t number) { return "key." + std::to_string(number); }
    static std::string value_name(size_t number) { return "value." + std::to_string(number); }
    // The whole network, with each attention's key and value as results.
    Selection select() const;
    size_t result_rank() const override { return 3; }

  private:
    void declare_base(const Scope& s);
    void declare_plus(const Scope& s);
    void declare_full(const Scope& s);

    Kind kind_{};
    int64_t input_width_ = 0, context_width_ = 0, tokens_ = 0;
    std::vector<int64_t> attentions_;
};

}  // namespace sdcpp
