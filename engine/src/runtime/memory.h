// One budget of device memory for all networks of a model: each network's share, and the order in which networks give
// memory up when another one needs room.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "device/device.h"

namespace sdcpp {

// A user's limit on device memory.
struct Budget {
    enum class Kind {
        automatic,  // everything that is free, if the weights do not all fit; otherwise no limit
        none,       // no limit
        networks,   // `bytes` for the networks
        process,    // `bytes` for the process, which takes a part of them for other things
        spare,      // free memory, less `bytes`
    };
    Kind kind = Kind::automatic;
    uint64_t bytes = 0;

    // From an option in GiB: 0 for none, below 0 for spare, NaN for automatic.
    static Budget from_gib(double gib, bool for_process);
};

// A network that holds device memory.
class MemoryUser {
  public:
    virtual ~MemoryUser() = default;
    // Bytes of weights, which must be loaded again once they are given up, and of memory that needs no loading.
    virtual uint64_t held_weights() const = 0;
    virtual uint64_t held_workspace() const = 0;
    virtual void give_workspace() = 0;
    // Gives up at least `bytes` of weights, or all. Its workspace has been given up before.
    virtual void give_weights(uint64_t bytes) = 0;
    // The limit has changed: the next run plans anew.
    virtual void forget_plan() = 0;
};

class Memory {
  public:
    Memory(Device& device, const Budget& budget);
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    // Users live as long as this. They are listed in the order in which they usually run.
    void add(MemoryUser& user) { shares_.push_back({&user}); }
    void remove(const MemoryUser& user);

    // A generation begins: a budget that follows free memory is read again.
    void begin();
    // `user` runs. A turn is a series of runs of one user; turns tell who is needed next.
    void begin_turn(const MemoryUser& user);

    static constexpr uint64_t unlimited = std::numeric_limits<uint64_t>::max();
    struct Limit {
        uint64_t plan_bytes = 0;         // the plan's budget; 0: all weights fit, so no plan is needed
        uint64_t all_bytes = unlimited;  // all networks' together
        uint64_t reserved_bytes = 0;     // the user's budget for other things than networks
    };
    // `resident_bytes` gives what `user` needs if all of its weights stay; it is called only if that matters.
    Limit limit(const std::function<uint64_t()>& resident_bytes);
    // Whether the user set a limit. One that leaves nothing is a limit, too.
    bool limited() const { return budget_.kind != Budget::Kind::none && budget_.kind != Budget::Kind::automatic; }
    // The least budget of the user's under which the networks get `bytes`.
    uint64_t budget_for(uint64_t bytes) const;
    // Whether networks and the device's backend together pass the user's limit.
    bool passed() const;

    // Others give up as little as possible, so that `user` can hold `bytes` under `limit`: workspaces first, then
    // weights, both from the network that is needed last.
    void make_room(const MemoryUser& user, uint64_t bytes, const Limit& limit);
    // Others give up everything.
    void clear_others(const MemoryUser& user);
    uint64_t weights_of_others(const MemoryUser& user) const;

  private:
    uint64_t overhead_at(uint64_t budget) const;
    struct Share {
        MemoryUser* user;
        uint64_t turns = 0, last = 0, before = 0;  // how many turns; the numbers of the last two
    };
    uint64_t next_turn(const Share& share) const;
    std::vector<MemoryUser*> others(const MemoryUser& user) const;

    Device& device_;
    Budget budget_;
    uint64_t bytes_ = 0;   // the budget now; 0: none, automatic, or nothing is left
    uint64_t beside_ = 0;  // what the process holds beside the networks, at most
    std::vector<Share> shares_;
    uint64_t turn_ = 0;
    const MemoryUser* running_ = nullptr;
};

}  // namespace sdcpp
