// One run of one network, for tests and benchmarks.
#pragma once

#include <string>
#include <vector>

#include "pipeline/model.h"

namespace sdcpp {

// `inputs`: see sdcpp_evaluate(). Throws SDCPP_INVALID_ARGUMENT.
Array evaluate(Model& model, const std::string& network, std::vector<Array> inputs);

}  // namespace sdcpp
