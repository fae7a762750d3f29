// A user's types of weights: one for all, and others for tensors whose names match a pattern.
#pragma once

#include <ggml.h>

#include <string>
#include <utility>
#include <vector>

#include "base/pattern.h"

namespace sdcpp {

class TypeRules {
  public:
    TypeRules() = default;
    // `type` "" leaves types as the files have them. `rules`: "pattern=type,pattern=type", regular expressions
    // (see Pattern) looked for in canonical names; the first that is found counts. Throws SDCPP_INVALID_ARGUMENT.
    TypeRules(const std::string& type, const std::string& rules);

    struct Wanted {
        ggml_type type = GGML_TYPE_COUNT;  // GGML_TYPE_COUNT: none
        bool by_rule = false;
    };
    Wanted of(const std::string& name) const;

  private:
    ggml_type type_ = GGML_TYPE_COUNT;
    std::vector<std::pair<Pattern, ggml_type>> rules_;
};

}  // namespace sdcpp
