#include "runtime/plan_simulation.h"

#include <algorithm>
#include <array>

namespace sdcpp {
namespace {

constexpr int warm_passes = 3;  // until the start from an empty link no longer shows
constexpr int counted_passes = 2;
constexpr size_t most_slots = 8;

}  // namespace

double steady_seconds(std::span<const Work> pass, double link_bytes_per_s, Uploads uploads,
                      std::vector<SegmentTimes>* times) {
    std::array<double, most_slots> slot_free{};
    double link_free = 0, computed = 0, last_start = 0, counted_from = 0, pass_start = 0;
    if (times) times->assign(pass.size(), {});
    for (int number = 0; number < warm_passes + counted_passes; ++number) {
        if (number == warm_passes) counted_from = computed;
        pass_start = computed;
        for (size_t i = 0; i < pass.size(); ++i) {
            const Work& work = pass[i];
            double start = computed, upload_start = 0;
            if (work.bytes > 0) {
                double& free = slot_free[std::min(static_cast<size_t>(std::max(work.slot, 0)), most_slots - 1)];
                const double ready = uploads == Uploads::in_series   ? computed
                                     : uploads == Uploads::one_ahead ? last_start
                                                                     : free;
                upload_start = std::max(ready, link_free);
                link_free = upload_start + static_cast<double>(work.bytes) / link_bytes_per_s;
                start = std::max(start, link_free);
                free = start + work.seconds;
            }
            last_start = start;
            computed = start + work.seconds;
            if (!times || number + 1 != warm_passes + counted_passes) continue;
            SegmentTimes& t = (*times)[i];
            t = {upload_start - pass_start, link_free - pass_start, start - pass_start, computed - pass_start};
            if (work.bytes == 0) t.upload_start = t.upload_end = t.compute_start;
        }
    }
    return (computed - counted_from) / counted_passes;
}

}  // namespace sdcpp
