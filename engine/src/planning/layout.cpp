#include "planning/layout.h"

#include <algorithm>

namespace sdcpp::planning {

bool Layout::ring(std::span<const LayoutPiece> pieces, uint64_t capacity_bytes) {
    uint64_t all = 0;
    for (const LayoutPiece& piece : pieces) all += piece.bytes;
    size_t rounds = capacity_bytes > 0 ? static_cast<size_t>((all + capacity_bytes - 1) / capacity_bytes) : 0;
    for (int i = 0; i < 3 && rounds > 1 && wind(pieces, capacity_bytes, rounds); ++i) {
        if (rounds_.size() <= rounds) {
            if (look_back(pieces)) return true;
            break;
        }
        rounds = rounds_.size();
    }
    return wind(pieces, capacity_bytes, 0) && look_back(pieces);
}

// In `rounds` rounds of about the same length; 0: each as long as the memory allows.
bool Layout::wind(std::span<const LayoutPiece> pieces, uint64_t capacity, size_t rounds) {
    offsets_.resize(pieces.size());
    rounds_.assign(1, 0);
    slot_bytes_.assign(1, 0);
    uint64_t all = 0, taken = 0, at = 0;
    for (const LayoutPiece& piece : pieces) all += piece.bytes;
    // A round ends nearest to its share of all bytes.
    const auto share = [&] { return rounds_.size() < rounds ? all / rounds * rounds_.size() : all; };
    for (size_t first = 0, end = 0; first < pieces.size(); first = end) {
        while (end < pieces.size() && pieces[end].owner == pieces[first].owner) ++end;
        const uint64_t start = at;
        const size_t before = rounds_.size();
        const auto put = [&](bool may_turn) {
            bool turned = false;
            uint64_t sum = taken, until = may_turn ? share() : all;
            for (size_t i = first; i < end; ++i) {
                const uint64_t bytes = pieces[i].bytes;
                if (at > 0 && (at + bytes > capacity || sum + bytes / 2 > until)) {
                    if (turned || !may_turn) return false;
                    turned = true;
                    rounds_.push_back(i);
                    until = share();
                    at = 0;
                }
                if (at + bytes > capacity || (turned && at + bytes > start)) return false;
                offsets_[i] = at;
                at += bytes;
                sum += bytes;
            }
            taken = sum;
            return true;
        };
        if (put(true)) continue;
        rounds_.resize(before);  // the stage would run into itself: it begins a round
        rounds_.push_back(first);
        at = 0;
        if (!put(false)) return false;
    }
    uint64_t& used = slot_bytes_.front();
    for (size_t i = 0; i < pieces.size(); ++i) used = std::max(used, offsets_[i] + pieces[i].bytes);
    return true;
}

bool Layout::slots(std::span<const LayoutPiece> pieces, size_t count, uint64_t capacity_bytes) {
    slot_bytes_.assign(count, 0);
    offsets_.resize(pieces.size());
    rounds_.clear();
    size_t turn = 0;
    uint64_t at = 0;  // within the slot
    for (size_t i = 0; i < pieces.size(); ++i) {
        if (i > 0 && pieces[i].owner != pieces[i - 1].owner) {
            ++turn;
            at = 0;
        }
        if (at == 0 && turn % count == 0) rounds_.push_back(i);
        offsets_[i] = at;
        at += pieces[i].bytes;
        slot_bytes_[turn % count] = std::max(slot_bytes_[turn % count], at);
    }
    std::vector<uint64_t> starts(count, 0);
    for (size_t k = 1; k < count; ++k) starts[k] = starts[k - 1] + slot_bytes_[k - 1];
    if (starts.back() + slot_bytes_.back() > capacity_bytes) return false;
    turn = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
        if (i > 0 && pieces[i].owner != pieces[i - 1].owner) ++turn;
        offsets_[i] += starts[turn % count];
    }
    return look_back(pieces);
}

bool Layout::look_back(std::span<const LayoutPiece> pieces) {
    const size_t count = pieces.size(), rounds = rounds_.size();
    const auto end_of = [&](size_t round) { return round + 1 < rounds ? rounds_[round + 1] : count; };
    const auto overlap = [&](size_t i, size_t k) {
        return offsets_[k] < offsets_[i] + pieces[i].bytes && offsets_[i] < offsets_[k] + pieces[k].bytes;
    };
    after_.resize(count);
    for (size_t round = 0; round < rounds; ++round) {
        const size_t previous = round > 0 ? round - 1 : rounds - 1, previous_end = end_of(previous);
        size_t last = rounds_[previous];
        for (size_t i = rounds_[round]; i < end_of(round); ++i) {
            // Offsets rise within a round, so the last piece that begins below the end of this one is the one to look
            // at.
            const uint64_t stop = offsets_[i] + pieces[i].bytes;
            while (last + 1 < previous_end && offsets_[last + 1] < stop) ++last;
            size_t way = last, back = 1;
            for (; !overlap(i, way); ++back) {  // that round ended earlier; at the latest it is itself, a pass before
                const size_t other = (round + rounds - back - 1) % rounds;
                const auto begin = offsets_.begin();
                way = static_cast<size_t>(std::lower_bound(begin + static_cast<std::ptrdiff_t>(rounds_[other]),
                                                           begin + static_cast<std::ptrdiff_t>(end_of(other)), stop) -
                                          begin) -
                      1;
            }
            const bool same_pass = back <= round;
            if (same_pass && pieces[way].owner == pieces[i].owner) return false;
            after_[i] = static_cast<int64_t>(way) - (same_pass ? 0 : static_cast<int64_t>(count));
        }
    }
    return true;
}

}  // namespace sdcpp::planning
