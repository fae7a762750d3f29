// How other namings of a network's tensors become the engine's; used by names.cpp alone.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/tensor_file.h"

namespace sdcpp {

using Rules = std::vector<std::pair<std::string_view, std::string_view>>;

bool replace_first(std::string& text, std::string_view from, std::string_view to);

// Takes `before`, a number and `after` off the front of `text`: "down_blocks.2.resnets." gives 2.
std::optional<int> take_number(std::string_view& text, std::string_view before, std::string_view after);

// One past the largest number that stands between `before` and `after` at the start of a name.
int count_of(const TensorFile& file, std::string_view prefix, std::string_view before, std::string_view after);

// `layers` blocks a level; `up_with_attention`: the levels whose upsampling comes third.
std::string unet_from_diffusers(const std::string& full, int layers, const std::set<int>& up_with_attention);
std::string vae_from_diffusers(std::string name, int levels);
std::string taesd_name(const std::string& full, bool whole_decoder_file, bool decoder_has_clamp);
std::string clip_from_open_clip(std::string name);
std::string llm_from_llama_cpp(std::string name);
std::string z_image_from_diffusers(std::string name);

// The names of the equal thirds, along its outermost side, of a tensor that holds q, k and v together; empty for
// others.
std::vector<std::string> fused_parts(const std::string& name);

}  // namespace sdcpp
