#include "planning/simulation.h"

#include <algorithm>

namespace sdcpp {

double Simulation::steady_seconds(std::span<const Work> pass, std::span<const Upload> uploads, Order order,
                                  Passes passes, Timeline* times) {
    computed_.assign(pass.size(), 0);
    computed_before_.assign(pass.size(), 0);
    const int last = passes.warm + passes.counted - 1;
    double link_free = 0, computed = 0, last_start = 0, counted_from = 0;
    if (times) *times = {std::vector<SegmentTimes>(pass.size()), std::vector<PieceTimes>(uploads.size())};
    for (int number = 0; number <= last; ++number) {
        if (number == passes.warm) counted_from = computed;
        const double pass_start = computed;
        std::swap(computed_, computed_before_);
        const Upload* upload = uploads.data();
        for (size_t i = 0; i < pass.size(); ++i) {
            double start = computed;
            for (size_t k = 0; k < pass[i].uploads; ++k, ++upload) {
                double ready = order == Order::in_series ? computed : last_start;
                if (order == Order::continuous)
                    ready = upload->after >= 0
                                ? computed_[static_cast<size_t>(upload->after)]
                                : computed_before_[static_cast<size_t>(upload->after + std::ssize(pass))];
                const double from = std::max(ready, link_free);
                link_free = from + upload->seconds;
                start = std::max(start, link_free);
                if (times)
                    times->pieces[static_cast<size_t>(upload - uploads.data())] = {from - pass_start,
                                                                                   link_free - pass_start};
            }
            last_start = start;
            computed = computed_[i] = start + pass[i].seconds;
            if (!times) continue;
            SegmentTimes& t = times->segments[i];
            t.compute_start = t.upload_start = t.upload_end = start - pass_start;
            t.compute_end = computed - pass_start;
            if (pass[i].uploads == 0) continue;
            const auto end = static_cast<size_t>(upload - uploads.data());
            t.upload_start = times->pieces[end - pass[i].uploads].upload_start;
            t.upload_end = times->pieces[end - 1].upload_end;
        }
    }
    return (computed - counted_from) / passes.counted;
}

}  // namespace sdcpp
