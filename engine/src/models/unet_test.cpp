// What the UNet is given beside the latent.
#include "models/unet.h"

#include <doctest/doctest.h>

using namespace sdcpp;

TEST_CASE("XL is told the picture's size twice, the refiner a score, which is low for the negative prompt") {
    for (const bool negative : {false, true})
        CHECK(UNet::sizes(UNet::base_sizes, 768, 1024, negative) == std::vector<float>{768, 1024, 0, 0, 768, 1024});
    CHECK(UNet::sizes(UNet::refiner_sizes, 768, 1024, false) == std::vector<float>{768, 1024, 0, 0, 6});
    CHECK(UNet::sizes(UNet::refiner_sizes, 768, 1024, true) == std::vector<float>{768, 1024, 0, 0, 2.5f});
}
