// Schedules and tables of noise levels.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/schedule.h"
#include "tests/throws.h"

using namespace sdcpp;

TEST_CASE("schedules fall to zero") {
    NoiseTable diffusion;
    diffusion.aligned_sigmas = diffusion.geometric_sigmas = {14.6, 1, 0.03};
    for (const NoiseTable& table :
         {diffusion, NoiseTable("scaled_linear", 0.00085, 0.012, 1000, true), NoiseTable::flow(3)})
        for (const std::string& name : scheduler_names()) {
            if ((name == "ays" || name == "gits") && table.aligned_sigmas.empty()) continue;
            for (const int steps : {1, 2, 7, 50, 999}) {
                if (name == "lcm" && steps > 50) continue;
                const auto sigmas = make_sigmas(name, steps, table);
                bool falls = sigmas.back() == 0 && sigmas.size() >= 2;
                for (size_t i = 0; i + 1 < sigmas.size(); ++i) falls = falls && sigmas[i] > sigmas[i + 1];
                CHECK_MESSAGE(falls, name.c_str());
            }
        }
    CHECK_MESSAGE(throws(SDCPP_INVALID_ARGUMENT, [] { (void)make_sigmas("karras", 0, NoiseTable()); }), "steps 0");
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [] { (void)make_sigmas("lcm", 51, NoiseTable()); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [] { (void)make_sigmas("leading", 1000, NoiseTable()); }));
    const NoiseTable table;
    for (const double t : {0.0, 1.5, 500.0, 998.25, 999.0})
        CHECK_MESSAGE(std::abs(table.timestep_of(table.sigma_of(t)) - t) < 1e-6, "timesteps and sigmas agree");
}
