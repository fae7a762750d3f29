// IP-Adapters beside a model's UNet: which are in use, and their part in a run.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "families/ip_adapter.h"
#include "generation/samplers.h"
#include "pipeline/beside.h"
#include "runtime/executor.h"

namespace sdcpp {

struct Model;

struct IpAdapterChoice : BesideChoice {
    Floats picture;  // [3, side, side], as the vision encoder takes it
    int side = 0;
};

// A file that is in use. Its network and the vision encoder run once a picture; steps take what they have made.
struct IpAdapterInUse {
    IpAdapterFile file;
    std::filesystem::file_time_type written;
    std::unique_ptr<Executor> executor;
    IpAdapterChoice choice;
    // Keys and values for the UNet's attentions in the order in which they run, key and value in turn: of the picture,
    // and of nothing, which negative conditionings get. Empty: not made yet.
    std::vector<Array> of_picture, of_nothing;
    // The denoiser's inputs that were made of them last, for these rows and this strength.
    std::vector<bool> rows;
    double strength = 0;
    std::vector<Array> inputs;
};

// These, in this order, and no others are in use from now on. Files that were in use before at the same place stay
// open, with their weights. Returns what they are: see sdcpp_set_ip_adapters. Throws SDCPP_INVALID_ARGUMENT,
// SDCPP_FILE_NOT_FOUND, SDCPP_BAD_FILE, SDCPP_MISSING_PART, SDCPP_UNSUPPORTED_MODEL; then none is in use.
Json set_ip_adapters(Model& model, std::vector<IpAdapterChoice> choices);

// Adds their inputs for step `step` of `steps` to the denoiser's. `negative`: one a row, whether its conditioning is
// negative. Pictures are looked at when they are first needed; without `compute` they are not, and the inputs have no
// data.
void add_ip_adapters(Model& model, std::vector<Array>& inputs, size_t step, size_t steps,
                     const std::vector<bool>& negative, bool compute = true);

// The sides of the pictures that the model's vision encoder takes; 0: it has none.
int vision_side(const Model& model);

}  // namespace sdcpp
