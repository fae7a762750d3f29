#include "weights/type_rules.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "base/error.h"
#include "base/names.h"
#include "io/dtype.h"

namespace sdcpp {
namespace {

template <typename Kind>
ggml_type type_named(const Kind& kind, const std::string& name) {
    std::vector<std::string> known;
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const auto ggml = static_cast<ggml_type>(type);
        const bool plain = ggml == GGML_TYPE_F32 || ggml == GGML_TYPE_F16 || ggml == GGML_TYPE_BF16;
        const ggml_type_traits* traits = ggml_get_type_traits(ggml);
        // types that need an importance matrix have no plain quantizer
        const bool quantizes = ggml_is_quantized(ggml) && traits->to_float && traits->from_float_ref;
        if (ggml_type_name(ggml) && (plain || quantizes)) known.emplace_back(ggml_type_name(ggml));
    }
    return to_ggml(*dtype_from_name(require_name(kind, usual_dtype_name(name), known)));
}

}  // namespace

TypeRules::TypeRules(const std::string& type, const std::string& rules) {
    if (!type.empty()) type_ = type_named(OptionName{"wtype"}, type);
    std::istringstream in(rules);
    for (std::string rule, more; std::getline(in, rule, ',');) {
        // a comma within {} is the expression's
        while (std::count(rule.begin(), rule.end(), '{') > std::count(rule.begin(), rule.end(), '}') &&
               std::getline(in, more, ','))
            rule += "," + more;
        const size_t equals = rule.rfind('=');
        if (equals == std::string::npos || equals == 0)
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"tensor_type_rules"}, " has '", rule.substr(0, 60),
                 "'; patterns and types such as ^vae=f16,attn=q8_0 are expected");
        try {
            rules_.emplace_back(Pattern(rule.substr(0, equals)), type_named("type", rule.substr(equals + 1)));
        } catch (const std::invalid_argument& problem) {
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"tensor_type_rules"}, ": '",
                 rule.substr(0, std::min(equals, Pattern::max_length)),
                 "' is no regular expression that can be used: ", problem.what());
        }
    }
}

TypeRules::Wanted TypeRules::of(const std::string& name) const {
    for (const auto& [pattern, type] : rules_)
        if (pattern.found_in(name)) return {type, true};
    return {type_, false};
}

}  // namespace sdcpp
