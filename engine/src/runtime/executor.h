// Runs a network on a device by a plan: which stages stay there, which are streamed. Plans and graphs are made once per
// shape and kept until release().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "nn/network.h"
#include "planning/planner.h"
#include "runtime/courier.h"
#include "runtime/flow.h"
#include "runtime/profile.h"
#include "runtime/weight_store.h"

namespace sdcpp {

// How much of the device a model's networks may hold together, and how plans are chosen.
struct MemoryOptions {
    std::optional<uint64_t> budget_bytes;  // 0: none; nothing: what is free, where not all fits
    Policy policy = Policy::automatic;
    bool stream_layers = true, offload_to_cpu = true;
    int64_t most_resident = -1;
    bool whole_process = false;  // the budget is for the process: what it holds beside the networks counts
    bool operator==(const MemoryOptions&) const = default;
};

// What a network did since the last report.
struct RunReport {
    std::string network;
    std::vector<PlanStage> stages;
    PlanOptions options;
    Plan plan;
    size_t runs = 0;                                // of all microbatches through all stages: steps, of a denoiser
    double seconds = 0, compute_seconds = 0;        // in all
    double stall_seconds = 0, upload_seconds = 0;   // waiting for uploads; the link at work
    uint64_t uploaded_bytes = 0, loaded_bytes = 0;  // in all; of those, residents and the first run
    size_t first_runs = 0;                          // of a plan: those load, and touch memory first
    double first_seconds = 0, first_compute_seconds = 0;  // of these
    std::vector<double> segment_seconds;                  // compute of each, the mean of all runs
    bool replanned = false;
};

class Executor {
  public:
    Executor(Device& device, std::unique_ptr<Network> network, const TypeRules& types);
    ~Executor();

    const Network& network() const { return *network_; }
    template <typename T>
    const T& as() const {
        return static_cast<const T&>(*network_);
    }

    // `make_room` is called where the budget does not hold beside what other networks hold.
    void set_memory(const MemoryOptions& options, std::function<void()> make_room);

    // Runs what is selected on `inputs`, which share the outermost side of those that are not shared, and returns the
    // results in the selection's order. Throws OverBudget, SDCPP_OUT_OF_MEMORY, SDCPP_CANCELLED.
    std::vector<Array> run(const std::vector<Array>& inputs, const Selection& selection);
    Array run(const std::vector<Array>& inputs) { return std::move(run(inputs, {}).front()); }

    // The plan that run() would follow; nothing is loaded. `inputs` need no data.
    RunReport preview(const std::vector<Array>& inputs, const Selection& selection = {});

    // Whether run() would find a plan.
    bool fits(const std::vector<Array>& inputs);

    // Gives back what can be had again without loading: nothing, under a budget that holds.
    void rest();
    // Gives graphs and workspace back, and the weights, too, if `weights` is true (they come back at the next run).
    void release(bool weights = false);

    // Runs are recorded in `profile` from now on, which must outlive this; null: none are.
    void set_profile(Profile* profile) { profile_ = profile; }
    bool has_run() const { return report_.runs > 0; }
    RunReport take_report();
    uint64_t mapped_weight_bytes() const { return store_.mapped_bytes(); }

  private:
    struct Prepared;
    struct Planned {
        std::vector<PlanStage> stages;
        PlanOptions options;
        Plan plan;
        bool mapped = false;
    };
    Prepared& prepare(const std::vector<Array>& inputs, const Selection& selection);
    Selection completed(Selection selection) const;
    Planned choose(const Flow& flow, const std::vector<size_t>& stages, int batch, uint64_t budget);
    // By what weights have their places now.
    struct Placed {
        Selection selection;
        Planned planned;
        std::shared_ptr<Courier> courier;
    };
    std::unique_ptr<Prepared> realize(const std::vector<Array>& inputs, const Selection& selection, Planned planned,
                                      bool place);
    std::unique_ptr<Prepared> adopt(const std::vector<Array>& inputs, const Selection& selection, const Flow& flow,
                                    uint64_t budget);
    bool worth_planning_anew(const Prepared& prepared, const std::vector<Array>& inputs);
    std::vector<PlanStage> planned_stages(const Flow& flow, const std::vector<size_t>& stages);
    uint64_t starting_budget(const Flow& flow, const std::vector<size_t>& stages, int batch);
    std::shared_ptr<Courier> hire(const Prepared& prepared);
    void place_weights(const std::vector<size_t>& stages, const Planned& planned);
    void run_pass(Prepared& prepared, const std::vector<Array>& inputs, int pass,
                  std::vector<std::vector<float>>& outputs);
    bool over_budget(const Prepared& prepared) const;
    void learn(Prepared& prepared, const std::vector<double>& segment_seconds);
    void compute(const SegmentGraph& graph);
    std::string stage_name(size_t stage) const;

    Device& device_;
    std::unique_ptr<Network> network_;
    WeightStore store_;
    MemoryOptions memory_;
    uint64_t overhead_bytes_ = 0;  // what the process takes of the budget beside the networks
    std::function<void()> make_room_;
    std::optional<Placed> placed_;
    std::vector<std::unique_ptr<Prepared>> prepared_;
    RunReport report_;
    int replans_ = 0;  // since the last report
    Profile* profile_ = nullptr;
    std::vector<double>
        measured_seconds_;  // of each of the network's stages for one microbatch of the present shape; 0: unknown
};

}  // namespace sdcpp
