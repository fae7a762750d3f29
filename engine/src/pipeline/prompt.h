// Prompts, as tokens, to conditionings.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/conditioning.h"
#include "models/text_encoder.h"
#include "pipeline/model.h"

namespace sdcpp {

// A prompt's tokens for one text encoder.
struct PromptTokens {
    std::span<const int32_t> ids;  // [chunks, positions], or [count] if any number is possible
    const float* weights = nullptr;
    int chunks = 1;
    std::span<const float> embeddings{};  // [rows, embedding_width], for ids from the encoder's vocabulary on
    int64_t embedding_width = 0;
};

// `tokens` for each of text_encoders(). `nothing`: the prompt is an empty negative one.
Conditioning encode_prompt(Model& model, std::span<const PromptTokens> tokens, int clip_skip, bool nothing);

// A conditioning from its arrays, all that the diffusion model takes.
Conditioning conditioning_of(const Model& model, const std::vector<Array>& arrays);

// The encoders that the family takes, in its order; empty if one is missing, whose name is then in `lacking`.
std::vector<const TextEncoder*> text_encoders(const Model& model, std::string* lacking = nullptr);
// The tokens that the family pads an encoder's prompts to.
std::optional<int64_t> padded_length(const Model& model, const std::string& encoder);
// Tokens of a prompt of so many chunks, all rows of the recipe together; encoders without chunks count `usual`.
int64_t text_tokens(const Model& model, int chunks, int64_t usual);

}  // namespace sdcpp
