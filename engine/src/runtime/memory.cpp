#include "runtime/memory.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/calibration.h"
#include "base/log.h"

namespace sdcpp {
namespace {

constexpr uint64_t never = std::numeric_limits<uint64_t>::max();

uint64_t less(uint64_t bytes, uint64_t taken) { return bytes - std::min(bytes, taken); }

}  // namespace

Budget Budget::from_gib(double gib, bool for_process) {
    if (std::isnan(gib)) return {Kind::automatic, 0};
    if (gib == 0) return {Kind::none, 0};
    const auto bytes = std::max<uint64_t>(static_cast<uint64_t>(std::abs(gib) * (1 << 30)), 1);
    if (gib < 0) return {Kind::spare, bytes};
    return {for_process ? Kind::process : Kind::networks, bytes};
}

Memory::Memory(Device& device, const Budget& budget) : device_(device), budget_(budget) {
    if (budget_.bytes == 0 && budget_.kind != Budget::Kind::spare && budget_.kind != Budget::Kind::automatic)
        budget_.kind = Budget::Kind::none;
    // Weights on a device's own memory are not the process' memory.
    if (budget_.kind == Budget::Kind::process && !device.is_cpu()) budget_.kind = Budget::Kind::networks;
}

void Memory::begin() {
    uint64_t bytes = budget_.bytes;
    if (budget_.kind == Budget::Kind::spare) {
        const uint64_t free = device_.unclaimed_bytes(), step = calibration::budget_step_bytes;
        bytes = less(free, budget_.bytes) / step * step;
        if (bytes == 0)
            log(SDCPP_LOG_WARNING, "max_vram leaves nothing of the " + std::to_string(free >> 20) +
                                       " MiB that are free on " + device_.name());
    }
    if (bytes == bytes_) return;
    bytes_ = bytes;
    for (const Share& share : shares_) share.user->forget_plan();
}

void Memory::begin_turn(const MemoryUser& user) {
    if (running_ == &user) return;
    running_ = &user;
    ++turn_;
    for (Share& share : shares_) {
        if (share.user != &user) continue;
        share.before = std::exchange(share.last, turn_);
        ++share.turns;
    }
}

Memory::Limit Memory::limit(const std::function<uint64_t()>& resident_bytes) {
    switch (budget_.kind) {
        case Budget::Kind::process: {
            give_back_freed_memory();
            beside_ = std::max(beside_, less(process_resident_bytes(), device_.memory().held()));
            break;
        }
        case Budget::Kind::networks:
        case Budget::Kind::spare:
            break;
        case Budget::Kind::automatic: {
            const uint64_t total = device_.unclaimed_bytes(), needed = resident_bytes();
            const uint64_t margin = std::min(calibration::margin_bytes, total / calibration::margin_share);
            const uint64_t all = std::max<uint64_t>(less(total, margin), 1);
            return {needed <= all ? 0 : all, all, 0};
        }
        case Budget::Kind::none:
            return {};
    }
    const uint64_t overhead = overhead_at(bytes_), all = std::max<uint64_t>(less(bytes_, overhead), 1);
    return {all, all, overhead};
}

// The bytes that a budget of this size has to bear in addition to the networks.
uint64_t Memory::overhead_at(uint64_t budget) const {
    if (budget_.kind == Budget::Kind::process)
        return beside_ + calibration::bookkeeping_bytes + budget / calibration::bookkeeping_share;
    if (limited() && device_.queues_uploads() && budget >= calibration::backend_counted_from)
        return std::max(device_.backend_bytes(),
                        std::min(calibration::backend_bytes, budget / calibration::backend_share));
    return 0;
}

uint64_t Memory::budget_for(uint64_t bytes) const {
    // what lies beside the networks is not the same to the byte when the next process measures it
    if (budget_.kind == Budget::Kind::process) bytes += calibration::process_drift_bytes;
    uint64_t budget = bytes;
    while (budget < bytes + overhead_at(budget)) budget = bytes + overhead_at(budget);
    return budget;
}

bool Memory::passed() const {
    return bytes_ >= calibration::backend_counted_from && device_.memory().held() + device_.backend_bytes() > bytes_;
}

void Memory::remove(const MemoryUser& user) {
    std::erase_if(shares_, [&](const Share& share) { return share.user == &user; });
    if (running_ == &user) running_ = nullptr;
}

// A user whose turns come at intervals is needed again after the last interval; one that has had a single turn, when
// all that have run had theirs. A user that has missed its turn is not waited for.
uint64_t Memory::next_turn(const Share& share) const {
    const auto have_run = static_cast<uint64_t>(
        std::count_if(shares_.begin(), shares_.end(), [](const Share& one) { return one.turns > 0; }));
    const uint64_t next = share.last + (share.turns == 1 ? have_run : share.last - share.before);
    return share.turns > 0 && next > turn_ ? next : never;
}

// The one that is needed last comes first.
std::vector<MemoryUser*> Memory::others(const MemoryUser& user) const {
    std::vector<const Share*> order;
    for (const Share& share : shares_)
        if (share.user != &user) order.push_back(&share);
    std::stable_sort(order.begin(), order.end(),
                     [&](const Share* a, const Share* b) { return next_turn(*a) > next_turn(*b); });
    std::vector<MemoryUser*> out;
    for (const Share* share : order) out.push_back(share->user);
    return out;
}

uint64_t Memory::weights_of_others(const MemoryUser& user) const {
    uint64_t sum = 0;
    for (const MemoryUser* other : others(user)) sum += other->held_weights();
    return sum;
}

void Memory::make_room(const MemoryUser& user, uint64_t bytes, const Limit& limit) {
    if (limit.all_bytes == unlimited) return;
    const std::vector<MemoryUser*> order = others(user);
    const auto excess = [&] {
        uint64_t held = bytes;
        for (const MemoryUser* other : order) held += other->held_weights() + other->held_workspace();
        return less(held, limit.all_bytes);
    };
    for (MemoryUser* other : order)
        if (excess() > 0 && other->held_workspace() > 0) other->give_workspace();
    for (MemoryUser* other : order) {
        const uint64_t lacking = excess();
        if (lacking > 0 && other->held_weights() > 0) {
            other->give_workspace();
            other->give_weights(lacking);
        }
    }
}

void Memory::clear_others(const MemoryUser& user) {
    for (MemoryUser* other : others(user)) {
        other->give_workspace();
        other->give_weights(unlimited);
    }
}

}  // namespace sdcpp
