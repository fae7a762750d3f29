// The first half of the UNet of Stable Diffusion, block by block: what the UNet itself and ControlNets, which are
// copies of it, are declared with.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/denoiser.h"

namespace sdcpp {

// A part of a network at run time.
using Run = std::function<void(Graph&, Values&)>;

std::string skip_name(size_t number);  // the value that the output blocks take
// The control nets' addition to a skip; the number after the last skip's is the middle.
std::string residual_name(size_t number);
// Keys and values of a picture's tokens for a cross-attention, numbered as they run; pictures are numbered from 0 on.
std::string picture_key_name(size_t picture, size_t attention);
std::string picture_value_name(size_t picture, size_t attention);

// What the tensors and the config say of a UNet.
struct UNetShape {
    int groups = 32;
    std::vector<int> heads{};  // by level; empty: the released models'
    int64_t model_channels = 0, in_channels = 0, context_width = 0, emb = 0;
    int64_t added = 0;  // the width of XL's added conditions; 0: it has none
    bool xl = false;

    UNetShape() = default;
    // Of the tensors in `scope`; groups and heads as the UNet's config in `config` says.
    UNetShape(const Scope& scope, const Json& config);
};

// Declares a UNet's stages, entry by entry.
class UNetBlocks {
  public:
    // `in_front`: goes before the stages' names, and before the names of values that are this network's own.
    UNetBlocks(Declaration& declaration, const Scope& scope, UNetShape shape, std::string in_front = "")
        : declaration_(declaration), scope_(scope), shape_(std::move(shape)), in_front_(std::move(in_front)) {}

    // After each entry of input_blocks, and for the first convolution: what else its last stage does with "x".
    using AfterEntry = std::function<Run(size_t entry, int64_t width)>;

    void time_embedding();
    void added_conditions();
    // `then` makes a further part of the stage; null: none.
    void first_convolution(const std::function<Run()>& then = nullptr);
    void input_blocks(const AfterEntry& then);
    void middle_block(const std::function<Run(int64_t width)>& then = nullptr);

    // The parts of the present entry, and its end: they become stages.
    void resnet(const Scope& scope, int64_t more_channels = 0);
    void transformer(const Scope& scope);
    void upsampling(const Scope& scope);
    void part(std::function<Run()> make, bool begins_stage = false);
    void end_entry(const std::string& name);
    void end_level() { level_ -= level_ > 0; }

    // A stage of its own.
    void stage(const std::string& name, const std::function<Run()>& make, bool same_block = false);

    const UNetShape& shape() const { return shape_; }
    int64_t width() const { return width_; }
    size_t level() const { return level_; }
    // The width of each cross-attention so far, in the order in which they run.
    const std::vector<int64_t>& attentions() const { return attentions_; }

  private:
    // A part of an entry, made when the parts before it are.
    struct Part {
        std::function<Run()> make;
        bool begins_stage = false;
    };
    Run own_values(Run run) const;

    Declaration& declaration_;
    Scope scope_;
    UNetShape shape_;
    std::string in_front_;
    int64_t width_ = 0;
    size_t level_ = 0;
    std::vector<int64_t> attentions_;
    std::vector<Part> parts_;
};

// x + more, which may be one for all places or rows of x. Throws SDCPP_UNSUPPORTED_MODEL if the sides do not fit.
ggml_tensor* sum_of(Graph& g, ggml_tensor* x, ggml_tensor* more);

// Adds the value `name` to `x` if there is one; it is not needed any more then.
ggml_tensor* with_value(Graph& g, Values& v, ggml_tensor* x, const std::string& name);

}  // namespace sdcpp
