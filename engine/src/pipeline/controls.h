// ControlNets and T2I-Adapters beside a model's UNet: which are in use, and their part in a run.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "families/control.h"
#include "generation/samplers.h"
#include "pipeline/beside.h"
#include "runtime/executor.h"

namespace sdcpp {

struct Model;

// How much each block counts, as A1111's web UI names it.
enum class ControlMode {
    balanced,
    prompt,  // less, the further a block is from the middle
    control  // likewise, and not at all for negative prompts
};

struct ControlChoice : BesideChoice {
    Floats hint;  // [3, height, width] in 0 to 1
    int height = 0, width = 0;
    ControlMode mode = ControlMode::balanced;
    std::vector<double> weights;  // a factor for each residual or feature; empty: 1
    int type = -1;                // a union's type of hint; -1: none
};

// A file that is in use. Its stages stand in the denoiser's executor; what sees the hint runs once a run, by itself.
struct Control {
    ControlFile file;
    std::filesystem::file_time_type written;
    size_t first_stage = 0, last_stage = 0;  // the denoiser's
    std::string in_front;                    // prefix of its values' names
    std::unique_ptr<Executor> hint;
    size_t outputs = 0;      // residuals or features
    int64_t types = 0;       // number of hint types
    int64_t factor = 8;      // sides of pictures must be whole multiples of it
    int64_t hint_width = 0;  // channels of what a ControlNet makes of the hint
    ControlChoice choice;
    std::vector<Array> seen;  // made of the hint; empty: not yet
};

// These, in this order, and no others are in use from now on. Files that were in use before at the same place stay
// open, with their weights. Returns what they are: see sdcpp_set_controls. Throws SDCPP_INVALID_ARGUMENT,
// SDCPP_FILE_NOT_FOUND, SDCPP_BAD_FILE, SDCPP_UNSUPPORTED_MODEL; then none is in use.
Json set_controls(Model& model, std::vector<ControlChoice> choices);

// Adds their inputs for step `step` of `steps` to the denoiser's, and returns the stages to be run. `negative`: one a
// row, whether its conditioning is negative. Hints are looked at when they are first needed; without `compute` they
// are not, and the inputs have no data.
Selection add_controls(Model& model, std::vector<Array>& inputs, size_t step, size_t steps,
                       const std::vector<bool>& negative, bool compute = true);

// Throws SDCPP_INVALID_ARGUMENT unless the hints are of a picture's size.
void require_hints(const Model& model, int width, int height);

}  // namespace sdcpp
