// The interface of text encoders: tokens in, hidden states out.
#pragma once

#include <span>

#include "nn/network.h"

namespace sdcpp {

class TextEncoder : public Network {
  public:
    using Network::Network;

    // A caller needs these to make tokens for it.
    struct Traits {
        std::string tokenizer;  // "clip", "qwen2" …
        int64_t positions = 0;  // tokens in a chunk, marks included; 0: any number, in one chunk
        int64_t vocabulary = 0, width = 0;
        int layers = 0;
        int32_t padding = 0;  // the padding token
    };
    virtual Traits traits() const = 0;
    size_t result_rank() const override { return 3; }

    // For `tokens` [rows, T]. `hides_padding`: no token sees padding at the end of a text, for encoders that can.
    virtual std::vector<Array> inputs(std::span<const int32_t> tokens, int64_t rows, bool hides_padding) const = 0;

    enum class Pooled { no, last_state, projected };
    struct Wanted {
        std::vector<int> layers_off = {0};  // hidden states without so many last layers, each
        bool normed = false;                // by the final norm; possible for one hidden state only
        Pooled pooled = Pooled::no;         // and one vector for the whole text
        bool hides_padding = false;         // see inputs()
    };
    // Results: states [N, T, C] for each of `layers_off`, then, if wanted, the whole text's [N, 1, P]. Throws
    // SDCPP_MISSING_PART if the encoder has no such vector.
    virtual Selection select(const Wanted& wanted) const = 0;

    // The file in which the table of embeddings lies.
    const MappedFile& table_file() const { return *embeddings_->source->file(); }

  protected:
    // Declares the table of embeddings [vocabulary, width]. It belongs to no stage: rows are taken from the file, so
    // that it never goes to the device.
    void declare_embeddings(const Scope& s, std::string_view name, int64_t vocabulary, int64_t width);
    // The rows of `tokens`, one behind the other.
    std::vector<float> embedded(std::span<const int32_t> tokens) const;
    // select() for encoders whose stages, from `first` on, are three a layer and the final norm. A layer's stages are
    // its halves and one that keeps its states as "states.K".
    Selection select_layers(const Wanted& wanted, size_t first) const;

  private:
    const Weight* embeddings_ = nullptr;
};

}  // namespace sdcpp
