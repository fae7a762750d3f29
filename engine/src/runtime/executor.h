// Runs a network on a device by a plan: which stages stay there, which are streamed. Plans and graphs are made once per
// shape and kept until release().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "nn/network.h"
#include "planning/planner.h"
#include "runtime/flow.h"
#include "runtime/graph_layout.h"
#include "runtime/memory.h"
#include "runtime/prefetcher.h"
#include "runtime/profile.h"
#include "runtime/weight_store.h"

namespace sdcpp {

// How plans are chosen.
struct StreamingOptions {
    Policy policy = Policy::automatic;
    bool stream_layers = true, offload_to_cpu = true;
    int64_t max_resident = -1;
};

// A network's runs since the last report.
struct RunReport {
    std::string network;
    std::vector<PlanStage> stages;
    PlanOptions options;
    Plan plan;
    size_t runs = 0;                                // all microbatches through all stages: a denoiser's steps
    double seconds = 0, compute_seconds = 0;        // in all
    double stall_seconds = 0, upload_seconds = 0;   // waiting for uploads; the link at work
    uint64_t uploaded_bytes = 0, loaded_bytes = 0;  // in all; the part in first runs
    size_t first_runs = 0;  // each plan's first run: it loads, and touches its memory for the first time
    double first_seconds = 0, first_compute_seconds = 0;  // the first runs' share
    bool replanned = false;
};

class Executor : public MemoryUser {
  public:
    // `memory` is shared with the model's other networks.
    Executor(Device& device, Memory& memory, std::unique_ptr<Network> network, const TypeRules& types,
             const StreamingOptions& options);
    ~Executor() override;

    const Network& network() const { return *network_; }
    template <typename T>
    const T& as() const {
        return static_cast<const T&>(*network_);
    }

    // Runs the selection on `inputs` and returns the results in the selection's order. Inputs that are not shared have
    // one outermost side, the batch. Throws OverBudget, SDCPP_OUT_OF_MEMORY, SDCPP_CANCELLED.
    std::vector<Array> run(const std::vector<Array>& inputs, const Selection& selection);
    Array run(const std::vector<Array>& inputs) { return std::move(run(inputs, {}).front()); }

    // The plan that run() would follow; nothing is loaded. `inputs` need no data.
    RunReport preview(const std::vector<Array>& inputs, const Selection& selection = {});

    // Bytes that run() would hold: resident weights and other memory; whether weights would be streamed; and the limit
    // of all networks together.
    struct Demand {
        uint64_t weights = 0, workspace = 0;
        bool streamed = false;
        uint64_t limit = Memory::unlimited;
    };
    Demand demand(const std::vector<Array>& inputs, const Selection& selection = {});

    // Whether run() would find a plan that stays under the budget.
    bool fits(const std::vector<Array>& inputs);

    // Lets another network declare stages after this one's, which run only in selections that name them; what `declare`
    // throws leaves everything as it was. All but the first so many stages are taken back; the others' weights stay
    // where they are.
    void extend(const std::function<void(Declaration& declaration)>& declare);
    void cut(size_t stages);

    // Gives weights, by number, other sources; what they held is loaded again at its next use.
    void set_sources(std::vector<std::pair<size_t, WeightSourcePtr>> sources);
    WeightList& weights() { return network_->weights(); }

    // A generation has ended. Without a limit, graphs and workspace are given back.
    void rest();

    uint64_t held_weights() const override { return store_.held_bytes(); }
    uint64_t held_workspace() const override;
    void give_workspace() override;
    void give_weights(uint64_t bytes) override;
    void forget_plan() override;

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
    // The plan by which weights have their places.
    struct Placed {
        std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;  // the inputs that it was made for
        std::vector<size_t> stages;
        Planned planned;
        std::vector<size_t> prefetcher_stages;
        std::shared_ptr<Prefetcher> prefetcher;  // null: none stands within a pass
    };
    Prepared& prepare(const std::vector<Array>& inputs, const Selection& selection);
    void place_whole();
    std::unique_ptr<Prepared> adopt(const std::vector<Array>& inputs, const Selection& selection, const Flow& flow,
                                    const Memory::Limit& limit);
    std::unique_ptr<Prepared> plan_anew(const std::vector<Array>& inputs, const Selection& selection, const Flow& flow,
                                        Memory::Limit limit);
    struct Laid;
    Laid lay(const std::vector<Array>& inputs, const Selection& selection, const Planned& planned) const;
    GraphLayout layout_of(const Flow& flow, size_t first, size_t last) const;
    std::pair<Planned, Laid> plan_within(const std::vector<Array>& inputs, const Selection& selection, const Flow& flow,
                                         uint64_t room, uint64_t reserved);
    std::unique_ptr<Prepared> realize(const std::vector<Array>& inputs, const Selection& selection, Planned planned,
                                      Laid laid, const Memory::Limit& limit, bool place);
    Selection completed(Selection selection) const;
    uint64_t whole_workspace(const Flow& flow, int batch) const;
    uint64_t copied_bytes(const std::vector<size_t>& stages) const;
    Memory::Limit limit(const Flow& flow, const std::vector<size_t>& stages, int batch);
    Planned choose(const Flow& flow, const std::vector<size_t>& stages, int batch, uint64_t budget,
                   uint64_t reserved = 0);
    void release();
    bool worth_planning_anew(const Prepared& prepared, const std::vector<Array>& inputs);
    std::vector<PlanStage> planned_stages(const Flow& flow, const std::vector<size_t>& stages);
    std::shared_ptr<Prefetcher> make_prefetcher(const Prepared& prepared);
    void place_weights(const std::vector<size_t>& stages, const Planned& planned);
    void run_pass(Prepared& prepared, const std::vector<Array>& inputs, int pass,
                  std::vector<std::vector<float>>& outputs);
    void learn(Prepared& prepared, const std::vector<double>& segment_seconds);
    void compute(const SegmentGraph& graph);
    std::string stage_name(size_t stage) const;

    Device& device_;
    Memory& memory_;
    std::unique_ptr<Network> network_;
    const size_t own_stages_;  // without those of networks that extend it
    WeightStore store_;
    StreamingOptions options_;
    std::optional<Placed> placed_;
    struct Whole {
        std::vector<Array> inputs;
        Selection selection;
    };
    std::optional<Whole> whole_;  // the last run of all own stages; its inputs have no data
    std::vector<std::unique_ptr<Prepared>> prepared_;
    bool interrupted_ = false;  // a prefetcher stands somewhere within a pass
    RunReport report_;
    int replans_ = 0;  // since the last report
    Profile* profile_ = nullptr;
    std::vector<double> measured_seconds_;  // each stage's for one microbatch of the present shape; 0: unknown
};

}  // namespace sdcpp
