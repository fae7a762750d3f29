// ControlNets (Zhang et al. 2023) for the UNets of Stable Diffusion: a copy of the UNet's first half that also sees a
// picture, the hint. What it makes of every skip and of the middle is added to the UNet's. One network (union) may take
// hints of several types.
#pragma once

#include <string>
#include <vector>

#include "models/unet_blocks.h"

namespace sdcpp {

// What the tensors of one show; canonical names begin with "controlnet.".
struct ControlNetShape {
    explicit ControlNetShape(const ModelFiles& files);

    int64_t model_channels = 0, in_channels = 0, context_width = 0, added = 0;
    int64_t hint_channels = 3, hint_factor = 8;  // pixels of the hint for a place of the latent
    int64_t types = 0;                           // number of hint types of a union; 0: not a union
    std::vector<int64_t> residuals;              // channels of each, the middle's last
};

// The part that sees the hint. Values in: "hint" [1, 3, H, W] in 0 to 1 and, for a union, "type" [1], its number. Out:
// "x" [1, M, H/f, W/f], which every step takes.
class ControlHint : public Network {
  public:
    explicit ControlHint(const ModelFiles& files);
};

// Declares the part that runs in every step, to run before a UNet whose stages stand in the same declaration. Values
// in: the UNet's and, with `in_front` before their names, "hint" [1, M, h, w], "scale" [N, residuals], the factor of
// each residual, and, for a union, "type_waves" [1, types * 256]. Out: "residual.I". `config`: the UNet's. `pools`:
// residuals are averaged over the picture.
void declare_control_net(Declaration& declaration, const ModelFiles& files, const Json& config,
                         const std::string& in_front, bool pools);

// Sinusoids for the hint's type among `types`: "type_waves".
std::vector<float> type_waves(int64_t type, int64_t types);

}  // namespace sdcpp
