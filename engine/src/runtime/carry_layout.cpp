#include "runtime/carry_layout.h"

#include <algorithm>

namespace sdcpp {

CarryLayout lay_out(const std::vector<Carry>& carries, const std::vector<PlannedSegment>& segments, int groups) {
    struct Life {
        size_t carry, first, last;  // segments
        uint64_t bytes;
    };
    std::vector<size_t> segment_of;
    for (size_t s = 0; s < segments.size(); ++s)
        segment_of.insert(segment_of.end(), segments[s].last - segments[s].first + 1, s);
    std::vector<Life> lives;
    const size_t end = segments.size();
    for (size_t c = 0; c < carries.size(); ++c) {
        const Carry& carry = carries[c];
        if (carry.last_use < 0) continue;
        const size_t first = carry.born < 0 ? 0 : segment_of[static_cast<size_t>(carry.born)];
        const size_t last = static_cast<size_t>(carry.last_use) >= segment_of.size()
                                ? end
                                : segment_of[static_cast<size_t>(carry.last_use)];
        if (carry.born >= 0 && last == first) continue;
        lives.push_back({c, first, last, CarryLayout::aligned(carry.bytes) * static_cast<uint64_t>(groups)});
    }
    // The large ones come first, each at the lowest place that is free for its whole life.
    std::stable_sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.bytes > b.bytes; });
    CarryLayout out;
    out.offsets.assign(carries.size(), 0);
    for (size_t i = 0; i < lives.size(); ++i) {
        std::vector<std::pair<uint64_t, uint64_t>> taken;
        for (size_t j = 0; j < i; ++j)
            if (lives[j].first <= lives[i].last && lives[i].first <= lives[j].last)
                taken.emplace_back(out.offsets[lives[j].carry], out.offsets[lives[j].carry] + lives[j].bytes);
        std::sort(taken.begin(), taken.end());
        uint64_t at = 0;
        for (const auto& [start, stop] : taken) {
            if (at + lives[i].bytes <= start) break;
            at = std::max(at, stop);
        }
        out.offsets[lives[i].carry] = at;
        out.bytes = std::max(out.bytes, at + lives[i].bytes);
    }
    return out;
}

}  // namespace sdcpp
