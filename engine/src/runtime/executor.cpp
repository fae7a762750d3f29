#include "runtime/executor.h"

#include <ggml-alloc.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

namespace sdcpp {
namespace {

constexpr size_t prepared_kept = 4;
constexpr uint64_t margin = uint64_t{512} << 20;  // of free memory, for other programs and what drivers take
// What processes were seen to take beside: graphs, and the pages of the file that are being read.
constexpr uint64_t bookkeeping = uint64_t{40} << 20, per_budget = 24;
// What a GPU's backend took by itself on an H200: recorded graphs, libraries, what the driver rounds up. It is measured
// after the first runs.
constexpr uint64_t backend_guess = uint64_t{160} << 20, guess_share = 8;
constexpr uint64_t noticed_budget = uint64_t{256} << 20;  // below it, drivers' figures are too coarse to be counted
constexpr int most_tries = 8;
constexpr size_t settled_runs = 5, runs_to_stay = 4;
constexpr int max_replans = 2;
constexpr double surprising = 0.1, worth_it = 0.97;

uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

// The realized plan would take more than the budget by `excess`.
struct Excess {
    uint64_t bytes;
};

// A plan of one segment, cut where weights can be waited for.
Plan cut_by_stages(const Plan& whole, size_t stages) {
    Plan out = whole;
    out.segments.clear();
    for (size_t i = 0; i < stages; ++i) {
        PlannedSegment& segment = out.segments.emplace_back();
        segment.first = segment.last = i;
    }
    return out;
}

// Of a stage that has so many.
std::vector<size_t> weights_of(const PlannedPiece& piece, size_t count) {
    if (!piece.parts.empty()) return piece.parts;
    std::vector<size_t> all(count);
    std::iota(all.begin(), all.end(), size_t{0});
    return all;
}

// Where values lie in one buffer, so that those that live at the same time do not overlap.
struct CarryLayout {
    std::vector<uint64_t> offsets;
    uint64_t bytes = 0;
};

}  // namespace

struct Executor::Prepared {
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
    Selection selection;
    Planned planned;
    std::unique_ptr<Flow> flow;  // of one graph's microbatches
    CarryLayout layout;
    DeviceBuffer carries;
    DeviceMemory::Lease workspace;
    ggml_gallocr_ptr allocator;
    std::vector<std::vector<SegmentGraph>> graphs;  // [segment][group]
    std::shared_ptr<Courier> courier;
    bool adopted = false;  // its weights lie where a plan for other inputs put them
    std::vector<double> segment_seconds;
    size_t runs = 0;
    uint64_t unclaimed_before = 0;  // Device::unclaimed_bytes() before this took its share.
    bool interrupted = false;
    std::vector<SegmentGraph> first_run;  // each stage by itself, where all weights are brought while it goes on

    int batch() const { return planned.plan.together * planned.plan.passes; }
    int groups() const { return planned.plan.together / planned.plan.group; }
    Address address(size_t carry, int group) const {
        const uint64_t at =
            layout.offsets[carry] + static_cast<uint64_t>(group) * aligned(flow->carries()[carry].bytes);
        return {carries.buffer.get(), carries.data() + at};
    }
};

namespace {

CarryLayout lay_out(const Flow& flow, const Plan& plan, int groups) {
    struct Life {
        size_t carry, first, last;  // segments
        uint64_t bytes;
    };
    std::vector<size_t> segment_of;
    for (size_t s = 0; s < plan.segments.size(); ++s)
        segment_of.insert(segment_of.end(), plan.segments[s].last - plan.segments[s].first + 1, s);
    std::vector<Life> lives;
    const size_t end = plan.segments.size();
    for (size_t c = 0; c < flow.carries().size(); ++c) {
        const Carry& carry = flow.carries()[c];
        if (carry.last_use < 0) continue;
        const size_t first = carry.born < 0 ? 0 : segment_of[static_cast<size_t>(carry.born)];
        const size_t last = static_cast<size_t>(carry.last_use) >= segment_of.size()
                                ? end
                                : segment_of[static_cast<size_t>(carry.last_use)];
        if (carry.born >= 0 && last == first) continue;  // within one segment
        lives.push_back({c, first, last, aligned(carry.bytes) * static_cast<uint64_t>(groups)});
    }
    // the large ones first, each at the lowest place that is free for its whole life
    std::stable_sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.bytes > b.bytes; });
    CarryLayout out;
    out.offsets.assign(flow.carries().size(), 0);
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

int64_t batch_of(const std::vector<Array>& inputs) {
    for (const Array& input : inputs)
        if (!input.shared) return input.shape.front();
    return 1;
}

}  // namespace

Executor::Executor(Device& device, std::unique_ptr<Network> network, const TypeRules& types)
    : device_(device),
      network_(std::move(network)),
      store_(device, *network_, types),
      measured_seconds_(network_->stages().size(), 0) {
    report_.network = network_->name();
}

Executor::~Executor() = default;

void Executor::set_memory(const MemoryOptions& options, std::function<void()> make_room) {
    if (options != memory_) release(true);
    memory_ = options;
    make_room_ = std::move(make_room);
}

std::string Executor::stage_name(size_t stage) const {
    const std::string& own = network_->stages()[stage].name;
    return own.starts_with(network_->name() + ".") ? own : network_->name() + "." + own;
}

// No budget where all fits; else what is free, less a margin.
uint64_t Executor::starting_budget(const Flow& flow, const std::vector<size_t>& stages, int batch) {
    if (memory_.whole_process) {
        give_back_freed_memory();
        const uint64_t resident = process_resident_bytes(), held = device_.memory().held();
        overhead_bytes_ = std::max(
            overhead_bytes_, resident - std::min(resident, held) + bookkeeping + *memory_.budget_bytes / per_budget);
        return std::max<uint64_t>(1, *memory_.budget_bytes - std::min(*memory_.budget_bytes, overhead_bytes_));
    }
    if (memory_.budget_bytes) {
        const uint64_t budget = *memory_.budget_bytes;
        const bool shared_with_backend = device_.queues_uploads() && budget >= noticed_budget;
        overhead_bytes_ =
            shared_with_backend ? std::max(device_.backend_bytes(), std::min(backend_guess, budget / guess_share)) : 0;
        return budget == 0 ? 0 : std::max<uint64_t>(1, budget - std::min(budget, overhead_bytes_));
    }
    if (!memory_.stream_layers || !memory_.offload_to_cpu) return 0;
    uint64_t weights = 0;
    const bool map = device_.maps_host_memory();
    for (const size_t stage : stages) weights += map ? store_.copied_bytes(stage) : store_.stage_bytes(stage);
    const UnionBytes all = flow.extent(0, flow.count() - 1, device_.buffer_type());
    const uint64_t needed = weights + (all.compute + all.carry_in + all.carry_out) * static_cast<uint64_t>(batch);
    const uint64_t free = device_.free_bytes() + store_.held_bytes();
    const uint64_t kept = std::min(margin, free / 8);
    if (needed + kept <= free) return 0;
    if (make_room_) make_room_();
    const uint64_t budget = device_.free_bytes() + store_.held_bytes() - kept;
    if (needed <= budget) return 0;
    log(SDCPP_LOG_INFO, network_->name() + " does not fit into the free memory of " + device_.name() +
                            " as a whole: planning with " + std::to_string(budget >> 20) + " MiB");
    return std::max<uint64_t>(budget, 1);
}

// Stages as the planner takes them, for one microbatch.
std::vector<PlanStage> Executor::planned_stages(const Flow& flow, const std::vector<size_t>& stages) {
    std::vector<PlanStage> out;
    const double flops_per_s = device_.speed().flops_per_s;
    for (size_t i = 0; i < stages.size(); ++i) {
        const UnionBytes need = flow.extent(i, i, device_.buffer_type());
        const double measured = measured_seconds_[stages[i]];
        out.push_back({stage_name(stages[i]), store_.stage_bytes(stages[i]), need.compute, need.carry_in,
                       need.carry_out, 0, measured > 0 ? measured : flow.flops(i) / flops_per_s,
                       store_.weight_bytes(stages[i]),
                       i > 0 && stages[i] == stages[i - 1] + 1 && network_->stages()[stages[i]].same_block});
    }
    return out;
}

Executor::Planned Executor::choose(const Flow& flow, const std::vector<size_t>& stages, int batch, uint64_t budget) {
    Planned out;
    out.options.budget_bytes = budget;
    out.options.reserved_bytes = overhead_bytes_;
    out.options.policy = memory_.policy;
    out.options.stream_layers = memory_.stream_layers;
    out.options.offload_to_cpu = memory_.offload_to_cpu;
    out.options.most_resident = memory_.most_resident;
    out.options.microbatches = batch;
    out.options.allocated_once = true;
    out.options.most_slot_bytes = ggml_backend_buft_get_max_size(device_.buffer_type());
    out.mapped = budget == 0 && device_.maps_host_memory();
    if (budget == 0) {
        out.plan.policy = Policy::pipelined;
        out.plan.together = out.plan.group = batch;
        out.plan.resident.assign(stages.size(), true);
        out.plan.streamed.assign(stages.size(), 0);
        PlannedSegment all;
        all.last = stages.size() - 1;
        for (const size_t stage : stages) {
            all.param_bytes += store_.stage_bytes(stage);
            PlanStage planned;
            planned.name = stage_name(stage);
            planned.param_bytes = store_.stage_bytes(stage);
            out.stages.push_back(std::move(planned));
        }
        out.plan.resident_bytes = all.param_bytes;
        out.plan.segments.push_back(all);
        return out;
    }
    const Device::Speed& speed = device_.speed();
    out.options.link_bytes_per_s = speed.link_bytes_per_s;
    out.options.dispatch_seconds = speed.dispatch_seconds;
    out.stages = planned_stages(flow, stages);
    // A union is measured once; the planner asks again and again.
    const auto known = std::make_shared<std::map<std::pair<size_t, size_t>, UnionBytes>>();
    out.options.measure = [&flow, known, buffers = device_.buffer_type()](size_t first, size_t last) {
        const auto [at, fresh] = known->try_emplace({first, last});
        if (fresh) at->second = flow.extent(first, last, buffers);
        return at->second;
    };
    out.plan = make_plan(out.stages, out.options);
    out.options.measure = nullptr;  // `flow` may not outlive this plan
    return out;
}

void Executor::place_weights(const std::vector<size_t>& stages, const Planned& planned) {
    const Plan& plan = planned.plan;
    std::vector<WeightStore::Place> places(network_->stages().size());
    for (WeightStore::Place& place : places) place.used = planned.options.budget_bytes == 0 && plan.pieces.empty();
    for (const size_t stage : stages) places[stage].used = true;
    for (const PlannedPiece& piece : plan.pieces) {
        auto& offsets = places[stages[piece.stage]].offsets;
        const std::vector<uint64_t> bytes = store_.weight_bytes(stages[piece.stage]);
        offsets.resize(bytes.size());
        uint64_t offset = piece.offset;
        for (const size_t weight : weights_of(piece, bytes.size())) {
            offsets[weight] = offset;
            offset += bytes[weight];
        }
    }
    store_.place(places, std::accumulate(plan.slots.begin(), plan.slots.end(), uint64_t{0}), planned.mapped);
}

// What the courier brings: residents when their stage is first needed, the plan's pieces in each pass.
std::shared_ptr<Courier> Executor::hire(const Prepared& prepared) {
    const std::vector<size_t>& stages = prepared.selection.stages;
    const Plan& plan = prepared.planned.plan;
    std::vector<Courier::Load> loads;
    const bool by_stages = !prepared.first_run.empty();
    size_t piece = 0;
    for (size_t s = 0; s < plan.segments.size(); ++s) {
        for (size_t i = plan.segments[s].first; i <= plan.segments[s].last; ++i) {
            loads.push_back({by_stages ? i : s, stages[i]});
            for (; piece < plan.pieces.size() && plan.pieces[piece].stage == i; ++piece) {
                const PlannedPiece& p = plan.pieces[piece];
                loads.push_back({s, stages[i], weights_of(p, store_.weight_bytes(stages[i]).size()), p.after});
            }
        }
    }
    const bool ahead = !plan.pieces.empty() ? plan.policy == Policy::pipelined : !device_.is_cpu();
    return std::make_shared<Courier>(device_, store_, std::move(loads),
                                     by_stages ? stages.size() : plan.segments.size(),
                                     ahead ? Courier::Mode::ahead : Courier::Mode::on_demand);
}

// `place`: the weights get the places that the plan gives them; else they have them.
std::unique_ptr<Executor::Prepared> Executor::realize(const std::vector<Array>& inputs, const Selection& selection,
                                                      Planned planned, bool place) {
    auto made = std::make_unique<Prepared>();
    made->selection = selection;
    for (const Array& input : inputs) made->shapes.emplace_back(input.name, input.shape);
    made->planned = std::move(planned);
    const Plan& plan = made->planned.plan;
    made->flow = std::make_unique<Flow>(*network_, device_.kernels(), selection, inputs, plan.group);
    made->layout = lay_out(*made->flow, plan, made->groups());

    const uint64_t budget = made->planned.options.budget_bytes;
    const uint64_t scratch = made->flow->scratch_bytes();
    const auto workspace_of = [&](size_t first, size_t last) {
        const auto nowhere = [](size_t) { return Address{}; };
        return workspace_bytes(made->flow->build(first, last, nowhere).graph, device_.buffer_type());
    };
    std::vector<uint64_t> sizes;
    for (const PlannedSegment& s : plan.segments) sizes.push_back(workspace_of(s.first, s.last));
    const size_t largest = static_cast<size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
    const uint64_t weights = plan.resident_bytes + std::accumulate(plan.slots.begin(), plan.slots.end(), uint64_t{0});
    uint64_t total = weights + sizes[largest] + scratch + made->layout.bytes;
    if (budget > 0 && total > budget) throw Excess{total - budget};

    // While everything is brought for good, each stage computes as soon as its own weights are there. That takes room
    // for what lives between stages, at addresses that serve the one graph of later runs too.
    bool by_stages = budget == 0 && !made->planned.mapped && !store_.placed() && selection.stages.size() > 1;
    if (by_stages) {
        const CarryLayout layout = lay_out(*made->flow, cut_by_stages(plan, selection.stages.size()), made->groups());
        uint64_t most = 0;
        for (size_t i = 0; i < selection.stages.size(); ++i) most = std::max(most, workspace_of(i, i));
        by_stages = most <= sizes[largest] && total + layout.bytes <= device_.free_bytes();
        if (by_stages) {
            total += layout.bytes - std::min(layout.bytes, made->layout.bytes);
            made->layout = layout;
        }
    }

    // Placements are shared by shapes while everything is resident for good.
    if (place && (!store_.placed() || budget > 0)) place_weights(selection.stages, made->planned);
    made->carries = device_.allocate(MemoryClass::carries, made->layout.bytes);
    made->workspace = device_.memory().take(MemoryClass::workspace, sizes[largest] + scratch);
    const auto no_workspace = [&] {
        fail(SDCPP_OUT_OF_MEMORY, network_->name(), " needs a workspace of ", sizes[largest] >> 20, " MiB on device ",
             device_.name(), ", which is not free; use a smaller picture, or vae_tiling for the decoder");
    };
    if (sizes[largest] > device_.free_bytes() + (device_.simulated() ? sizes[largest] : 0)) no_workspace();
    for (const PlannedSegment& s : plan.segments) {
        auto& variants = made->graphs.emplace_back();
        for (int group = 0; group < made->groups(); ++group)
            variants.push_back(
                made->flow->build(s.first, s.last, [&](size_t carry) { return made->address(carry, group); }));
    }
    const auto address = [&](size_t carry) { return made->address(carry, 0); };
    for (size_t i = 0; by_stages && i < selection.stages.size(); ++i)
        made->first_run.push_back(made->flow->build(i, i, address));
    // One allocator serves all graphs: the largest one takes the memory, the others are laid out in the same.
    made->allocator.reset(ggml_gallocr_new(device_.buffer_type()));
    bool ok = ggml_gallocr_reserve(made->allocator.get(), made->graphs[largest][0].graph);
    for (auto& variants : made->graphs)
        for (SegmentGraph& graph : variants) ok = ok && ggml_gallocr_alloc_graph(made->allocator.get(), graph.graph);
    for (SegmentGraph& graph : made->first_run) ok = ok && ggml_gallocr_alloc_graph(made->allocator.get(), graph.graph);
    if (!ok) no_workspace();
    if (ggml_gallocr_get_buffer_size(made->allocator.get(), 0) > sizes[largest])
        fail(SDCPP_INTERNAL, "the workspace grew while graphs were laid out");
    made->planned.plan.workspace_bytes = sizes[largest] + scratch;
    made->planned.plan.carry_bytes = made->layout.bytes;
    made->planned.plan.peak_bytes = total;
    for (size_t i = 0; i < sizes.size(); ++i) made->planned.plan.segments[i].compute_bytes = sizes[i] + scratch;
    made->segment_seconds.assign(plan.segments.size(), 0);
    return made;
}

Executor::Prepared& Executor::prepare(const std::vector<Array>& inputs, const Selection& selection) {
    const std::vector<size_t>& stages = selection.stages;
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
    for (const Array& input : inputs) shapes.emplace_back(input.name, input.shape);
    for (const auto& known : prepared_)
        if (known->shapes == shapes && known->selection == selection) return *known;

    const auto batch = static_cast<int>(batch_of(inputs));
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    uint64_t budget = starting_budget(flow, stages, batch);
    const bool strict = memory_.budget_bytes.value_or(0) > 0;
    if (budget > 0)
        if (auto adopted = adopt(inputs, selection, flow, strict ? budget : 0))
            return *prepared_.emplace_back(std::move(adopted));
    if (budget > 0 || (!prepared_.empty() && !prepared_.back()->planned.plan.pieces.empty())) release(true);
    if (prepared_.size() >= prepared_kept) prepared_.erase(prepared_.begin());
    bool alone = false;  // other networks have given back what they held
    const auto clear_device = [&] {
        alone = true;
        release(true);
        if (make_room_) make_room_();
    };
    const uint64_t unclaimed = device_.queues_uploads() ? device_.unclaimed_bytes() : 0;
    uint64_t slack = 0;  // what realized plans took beyond their word
    for (int attempt = 0;; ++attempt) {
        try {
            const uint64_t others = budget > 0 && strict ? device_.memory().held() : 0;
            if (budget > 0 && others + slack >= budget && !alone) {
                clear_device();
                continue;
            }
            const uint64_t room = budget > 0 ? std::max<uint64_t>(budget - std::min(budget, others + slack), 1) : 0;
            Planned planned = choose(flow, stages, batch, room);
            if (!alone && others > 0 && !planned.plan.pieces.empty()) {  // better without them
                clear_device();
                continue;
            }
            planned.options.budget_bytes = budget > 0 ? budget - others : 0;
            auto made = realize(inputs, selection, std::move(planned), true);
            made->courier = hire(*made);
            made->unclaimed_before = unclaimed;
            if (budget > 0) placed_ = Placed{selection, made->planned, made->courier};
            if (budget > 0)
                log(SDCPP_LOG_INFO, network_->name() + ": " + std::to_string(made->planned.plan.resident_bytes >> 20) +
                                        " MiB resident, " +
                                        std::to_string(made->planned.plan.streamed_bytes_per_step >> 20) +
                                        " MiB streamed a step, policy " + policy_name(made->planned.plan.policy));
            return *prepared_.emplace_back(std::move(made));
        } catch (const Excess& excess) {
            if (attempt >= most_tries)
                fail(SDCPP_OUT_OF_MEMORY, network_->name(), " finds no plan that stays under the budget");
            slack += excess.bytes << attempt;  // the next plan may be one that takes even more
        } catch (const OverBudget&) {
            if (alone || attempt >= most_tries) throw;
            clear_device();
        } catch (const Error& problem) {
            if (problem.status() != SDCPP_OUT_OF_MEMORY || attempt >= most_tries) throw;
            clear_device();
            const uint64_t free = device_.free_bytes();
            if (!memory_.stream_layers || !memory_.offload_to_cpu) throw;
            budget = std::min(budget > 0 ? budget - budget / 8 : free, free);
            if (budget == 0) throw;
            log(SDCPP_LOG_WARNING,
                std::string(problem.what()) + "; planning again with " + std::to_string(budget >> 20) + " MiB");
        }
    }
}

// Weights stay where a plan for other inputs put them, if what these inputs need beside them fits: only workspace and
// carries change. `budget` 0: what is free.
std::unique_ptr<Executor::Prepared> Executor::adopt(const std::vector<Array>& inputs, const Selection& selection,
                                                    const Flow& flow, uint64_t budget) {
    if (!placed_ || !store_.placed() || placed_->selection != selection) return nullptr;
    prepared_.clear();
    const auto batch = static_cast<int>(batch_of(inputs));
    const uint64_t own = store_.held_bytes(), held = device_.memory().held();
    const uint64_t room = budget > 0 ? budget - std::min(budget, held - own) : device_.free_bytes() + own;
    Planned planned = placed_->planned;
    planned.stages = planned_stages(flow, selection.stages);
    planned.options.budget_bytes = std::max<uint64_t>(room, 1);
    planned.options.microbatches = batch;
    for (const auto& [together, group] : {std::pair{batch, batch}, {batch, 1}, {1, 1}}) {
        planned.plan.together = together;
        planned.plan.group = group;
        planned.plan.passes = batch / together;
        try {
            auto made = realize(inputs, selection, planned, false);
            Plan& plan = made->planned.plan;
            plan.predicted_step_seconds = predicted_seconds(planned.stages, planned.options, plan);
            plan.limit_step_seconds = limit_seconds(planned.stages, planned.options);
            if (!placed_->courier) placed_->courier = hire(*made);
            made->courier = placed_->courier;
            made->adopted = true;
            log(SDCPP_LOG_INFO, network_->name() + ": weights stay where they are for inputs of another size");
            return made;
        } catch (const Excess&) {
        } catch (const Error& problem) {
            if (problem.status() != SDCPP_OUT_OF_MEMORY) throw;
        }
    }
    return nullptr;
}

// With all stages by number where none is named.
Selection Executor::completed(Selection selection) const {
    if (selection.stages.empty()) {
        selection.stages.resize(network_->stages().size());
        std::iota(selection.stages.begin(), selection.stages.end(), size_t{0});
    }
    return selection;
}

bool Executor::fits(const std::vector<Array>& inputs) {
    const Selection selection = completed({});
    const auto batch = static_cast<int>(batch_of(inputs));
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const uint64_t budget = starting_budget(flow, selection.stages, batch);
    if (budget == 0) return true;
    try {
        choose(flow, selection.stages, batch, budget);
        return true;
    } catch (const OverBudget&) {
        return false;
    }
}

RunReport Executor::preview(const std::vector<Array>& inputs, const Selection& given) {
    const Selection selection = completed(given);
    const auto batch = static_cast<int>(batch_of(inputs));
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    uint64_t budget = starting_budget(flow, selection.stages, batch);
    if (budget == 0) budget = uint64_t{1} << 49;  // all fits; the sizes are wanted nevertheless
    Planned planned = choose(flow, selection.stages, batch, budget);
    RunReport out;
    out.network = network_->name();
    out.stages = std::move(planned.stages);
    out.options = planned.options;
    out.plan = std::move(planned.plan);
    return out;
}

void Executor::compute(const SegmentGraph& graph) {
    if (profile_)
        profile_->compute(device_, network_->name(), graph);
    else
        device_.compute(graph.graph);
}

void Executor::run_pass(Prepared& prepared, const std::vector<Array>& inputs, int pass,
                        std::vector<std::vector<float>>& outputs) {
    const Plan& plan = prepared.planned.plan;
    const Flow& flow = *prepared.flow;
    const auto tensor_at = [&](size_t carry, int group, ggml_tensor& tensor) {
        const Carry& c = flow.carries()[carry];
        const Address address = prepared.address(carry, group);
        tensor = {};
        tensor.type = c.type;
        std::copy(c.ne.begin(), c.ne.end(), tensor.ne);
        tensor.nb[0] = ggml_type_size(c.type);
        tensor.nb[1] = ggml_row_size(c.type, c.ne[0]);
        for (int d = 2; d < GGML_MAX_DIMS; ++d)
            tensor.nb[d] = tensor.nb[d - 1] * static_cast<size_t>(c.ne[static_cast<size_t>(d - 1)]);
        tensor.buffer = address.buffer;
        tensor.data = address.data;
    };
    ggml_tensor tensor;
    for (int group = 0; group < prepared.groups(); ++group) {
        const int first = pass * plan.together + group * plan.group;
        for (size_t i = 0; i < inputs.size(); ++i) {
            const size_t carry = flow.input_carry(i), bytes = flow.carries()[carry].bytes;
            if (flow.carries()[carry].last_use < 0) continue;
            tensor_at(carry, group, tensor);
            const size_t offset =
                inputs[i].shared ? 0 : static_cast<size_t>(first) * (bytes / static_cast<size_t>(plan.group));
            ggml_backend_tensor_set(&tensor, static_cast<const std::byte*>(inputs[i].data) + offset, 0, bytes);
        }
    }
    const bool loading = prepared.runs == 0 && !prepared.first_run.empty();
    for (size_t i = 0; loading && i < prepared.first_run.size(); ++i) {
        prepared.courier->wait(i);
        const auto start = Clock::now();
        compute(prepared.first_run[i]);
        prepared.segment_seconds[0] += seconds_since(start);
    }
    for (size_t s = 0; !loading && s < plan.segments.size(); ++s) {
        prepared.courier->wait(s);
        const auto start = Clock::now();
        for (const SegmentGraph& graph : prepared.graphs[s]) compute(graph);
        prepared.segment_seconds[s] += seconds_since(start);
        prepared.courier->done();
    }
    for (int group = 0; group < prepared.groups(); ++group) {
        for (size_t i = 0; i < outputs.size(); ++i) {
            tensor_at(flow.results()[i], group, tensor);
            const auto count = static_cast<size_t>(ggml_nelements(&tensor));
            std::vector<float>& data = outputs[i];
            data.resize(data.size() + count);
            ggml_backend_tensor_get(&tensor, data.data() + data.size() - count, 0, count * sizeof(float));
        }
    }
}

std::vector<Array> Executor::run(const std::vector<Array>& inputs, const Selection& given) {
    const Selection selection = completed(given);
    const auto start = Clock::now();
    Prepared* prepared = &prepare(inputs, selection);
    if (prepared->interrupted) {  // the courier stands somewhere within a pass
        release();
        prepared = &prepare(inputs, selection);
    }
    const Plan& plan = prepared->planned.plan;
    std::vector<std::vector<float>> values(selection.results.size());
    prepared->interrupted = true;
    const std::vector<double> before = prepared->segment_seconds;
    for (int pass = 0; pass < plan.passes; ++pass) run_pass(*prepared, inputs, pass, values);
    prepared->interrupted = false;
    std::vector<Array> outputs;
    for (size_t i = 0; i < values.size(); ++i) {
        const auto& ne = prepared->flow->carries()[prepared->flow->results()[i]].ne;
        const auto rank = static_cast<std::ptrdiff_t>(network_->result_rank());
        std::vector<int64_t> shape(ne.rend() - rank, ne.rend());
        shape.front() = prepared->batch();
        outputs.push_back(Array::of(selection.results[i], std::move(shape), std::move(values[i])));
    }

    const Courier::Counts counts = prepared->courier->take_counts();
    const double seconds = seconds_since(start);
    report_.stages = prepared->planned.stages;
    report_.options = prepared->planned.options;
    if (report_.segment_seconds.size() != plan.segments.size() || report_.runs == 0)
        report_.segment_seconds.assign(plan.segments.size(), 0);
    std::vector<double> spent = prepared->segment_seconds;
    for (size_t s = 0; s < plan.segments.size(); ++s) {
        spent[s] -= before[s];
        report_.segment_seconds[s] += spent[s];
    }
    const double computing = std::accumulate(spent.begin(), spent.end(), 0.0);
    report_.compute_seconds += computing;
    if (prepared->runs == 0 && !prepared->adopted) {
        report_.first_compute_seconds += computing;
        report_.loaded_bytes += counts.uploaded_bytes;
        report_.first_seconds += seconds;
        ++report_.first_runs;
    }
    ++prepared->runs;
    ++report_.runs;
    report_.plan = plan;
    report_.seconds += seconds;
    report_.uploaded_bytes += counts.uploaded_bytes;
    report_.upload_seconds += counts.upload_seconds;
    report_.stall_seconds += counts.stall_seconds;
    if (device_.queues_uploads() && (prepared->runs == 1 || prepared->runs == settled_runs)) {
        device_.count_backend_bytes(prepared->unclaimed_before);
        prepared->unclaimed_before = device_.unclaimed_bytes();
        if (over_budget(*prepared)) {
            log(SDCPP_LOG_INFO, network_->name() + ": planned again with what the device's driver takes");
            release(true);
            return outputs;
        }
    }
    if (prepared->adopted) {
        if (prepared->runs == runs_to_stay && worth_planning_anew(*prepared, inputs)) release(true);
        return outputs;
    }
    // The first run was slowed down by loading; backends that record graphs do so in the next ones.
    const bool telling = prepared->runs == 2 || (prepared->runs == settled_runs && device_.queues_uploads());
    if (telling && prepared->planned.options.budget_bytes > 0) {
        if (counts.upload_seconds > 0 && counts.uploaded_bytes > margin / 16 && device_.paced_link_bytes_per_s() == 0) {
            Device::Speed speed = device_.speed();
            speed.link_bytes_per_s = static_cast<double>(counts.uploaded_bytes) / counts.upload_seconds;
            device_.set_speed(speed);
        }
        learn(*prepared, spent);
    }
    return outputs;
}

// Whether a plan made for these inputs would be faster than the one that their weights lie by.
bool Executor::worth_planning_anew(const Prepared& prepared, const std::vector<Array>& inputs) {
    const Flow flow(*network_, device_.kernels(), prepared.selection, inputs, 1);
    try {
        const Planned fresh =
            choose(flow, prepared.selection.stages, prepared.batch(), prepared.planned.options.budget_bytes);
        return fresh.plan.predicted_step_seconds < (1 - surprising) * prepared.planned.plan.predicted_step_seconds;
    } catch (const OverBudget&) {
        return false;
    }
}

// Whether the plan and what the backend has taken by itself pass the budget.
bool Executor::over_budget(const Prepared& prepared) const {
    const uint64_t budget = memory_.budget_bytes.value_or(0);
    return budget >= noticed_budget && prepared.planned.options.budget_bytes > 0 &&
           device_.memory().held() + device_.backend_bytes() > budget;
}

// Takes what a run has shown: stage times, the link's speed. Where that is far from what the plan was made for
// and a better plan is known now, the next run makes it.
void Executor::learn(Prepared& prepared, const std::vector<double>& segment_seconds) {
    Planned& planned = prepared.planned;
    std::vector<PlanStage> measured = planned.stages;
    for (size_t s = 0; s < planned.plan.segments.size(); ++s) {
        const PlannedSegment& segment = planned.plan.segments[s];
        double guessed = 0;
        for (size_t i = segment.first; i <= segment.last; ++i) guessed += planned.stages[i].seconds;
        const double each = segment_seconds[s] / prepared.batch();
        for (size_t i = segment.first; i <= segment.last; ++i) {
            const auto parts = static_cast<double>(segment.last - segment.first + 1);
            measured[i].seconds = guessed > 0 ? each * planned.stages[i].seconds / guessed : each / parts;
        }
    }
    PlanOptions options = planned.options;
    options.link_bytes_per_s = device_.speed().link_bytes_per_s;
    options.dispatch_seconds = 0;  // it is within what was measured
    const double expected = planned.plan.predicted_step_seconds;
    const double now = predicted_seconds(measured, options, planned.plan);
    for (size_t i = 0; i < prepared.selection.stages.size(); ++i)
        measured_seconds_[prepared.selection.stages[i]] = measured[i].seconds;
    planned.stages = measured;
    planned.options = options;
    planned.plan.predicted_step_seconds = now;
    planned.plan.limit_step_seconds = limit_seconds(measured, options);
    const bool by_times = options.policy == Policy::automatic || options.policy == Policy::pipelined;
    if (!by_times || planned.plan.pieces.empty() || replans_ == max_replans ||
        std::abs(now - expected) <= surprising * expected)
        return;
    Plan better;
    try {
        better = make_plan(measured, options);
    } catch (const OverBudget&) {
        return;
    }
    if (better.predicted_step_seconds >= worth_it * now) return;
    report_.replanned = true;
    ++replans_;
    log(SDCPP_LOG_INFO, network_->name() + ": planned again with measured times");
    release(true);
}

void Executor::rest() {
    const bool budgeted = !prepared_.empty() && prepared_.back()->planned.options.budget_bytes > 0;
    if (!budgeted) release();
}

void Executor::release(bool weights) {
    prepared_.clear();
    if (weights)
        placed_.reset();
    else if (placed_)
        placed_->courier.reset();  // it may stand somewhere within a pass
    if (device_.kernels().gemm) device_.kernels().gemm->trim();
    if (weights) store_.release();
    if (weights && device_.is_cpu()) give_back_freed_memory();  // the budget is for the process
}

RunReport Executor::take_report() {
    RunReport out = std::exchange(report_, {});
    replans_ = 0;
    report_.network = network_->name();
    for (double& seconds : out.segment_seconds) seconds /= static_cast<double>(std::max<size_t>(out.runs, 1));
    return out;
}

}  // namespace sdcpp
