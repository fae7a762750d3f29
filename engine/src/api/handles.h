// The structs behind the opaque pointers of the C interface.
#pragma once

#include <atomic>
#include <thread>

#include "pipeline/model.h"
#include "pipeline/options.h"

struct sdcpp_model {
    sdcpp::Model model;
    std::atomic<std::thread::id> calling_back{};  // the thread that a callback of a run is on
    explicit sdcpp_model(const sdcpp::ModelOptions& options) : model(options) {}
};

struct sdcpp_options {
    sdcpp::Options values;
};

struct sdcpp_conditioning {
    sdcpp::Conditioning conditioning;
};

struct sdcpp_result {
    sdcpp::Array array;
};

namespace sdcpp {

// The options' values and the defaults of the others; defaults alone if `options` is null.
template <typename Target>
Target stored(const sdcpp_options* options, OptionSet set, const Model* model = nullptr) {
    Target target;
    std::function<std::string(const std::string&)> own;
    if (model) own = [&](const std::string& name) { return model->default_of(name); };
    if (options)
        options->values.store(target, own);
    else
        Options(set).store(target, own);
    return target;
}

}  // namespace sdcpp
