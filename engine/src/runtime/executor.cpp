#include "runtime/executor.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "base/calibration.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "runtime/carry_layout.h"
#include "runtime/graph_layout.h"

namespace sdcpp {
namespace {

constexpr size_t max_prepared = 4;
constexpr int max_tries = 8, smaller_budgets = 16;

// Segments of one stage each: weights can be waited for stage by stage.
std::vector<PlannedSegment> single_stages(size_t count) {
    std::vector<PlannedSegment> out(count);
    for (size_t i = 0; i < count; ++i) out[i].first = out[i].last = i;
    return out;
}

// The weights of a piece, from a stage that has `count`.
std::vector<size_t> weights_of(const PlannedPiece& piece, size_t count) {
    if (!piece.parts.empty()) return piece.parts;
    std::vector<size_t> all(count);
    std::iota(all.begin(), all.end(), size_t{0});
    return all;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> shapes_of(const std::vector<Array>& inputs) {
    std::vector<std::pair<std::string, std::vector<int64_t>>> out;
    for (const Array& input : inputs) out.emplace_back(input.name, input.shape);
    return out;
}

}  // namespace

struct Executor::Prepared {
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
    Selection selection;
    Planned planned;
    std::unique_ptr<Flow> flow;  // for one graph's microbatches
    CarryLayout layout;
    DeviceBuffer carries;
    std::vector<DeviceBuffer> workspace;  // one graph at a time computes in it
    DeviceMemory::Lease scratch;
    std::vector<std::vector<SegmentGraph>> graphs;  // [segment][group]
    std::shared_ptr<Prefetcher> prefetcher;
    bool adopted = false;  // its weights have the places of a plan for other inputs
    bool loads = false;    // weights that stay were lacking
    std::vector<double> segment_seconds;
    size_t runs = 0;
    uint64_t unclaimed_before = 0;        // Device::unclaimed_bytes() before this took its share.
    std::vector<SegmentGraph> first_run;  // a graph for each stage, if all weights are loaded during the first run

    int batch() const { return planned.plan.together * planned.plan.passes; }
    int groups() const { return planned.plan.together / planned.plan.group; }
    Address address(size_t carry, int group) const {
        const uint64_t at =
            layout.offsets[carry] + static_cast<uint64_t>(group) * CarryLayout::aligned(flow->carries()[carry].bytes);
        return {carries.buffer.get(), carries.data() + at};
    }
};

// A plan's graphs, laid out: what it takes when it runs. The planner's figures leave out the gaps between values.
struct Executor::Laid {
    std::unique_ptr<Flow> flow;  // for one graph's microbatches
    CarryLayout carries;
    std::vector<uint64_t> sizes, buffers;  // workspace by segment; the buffers that serve all segments
    uint64_t workspace = 0, total = 0;     // scratch is in the total only
};

namespace {

std::vector<Array> without_data(std::vector<Array> inputs) {
    for (Array& input : inputs) {
        input.data = nullptr;
        input.owner = nullptr;
    }
    return inputs;
}

int64_t batch_of(const std::vector<Array>& inputs) {
    for (const Array& input : inputs)
        if (!input.shared) return input.shape.front();
    return 1;
}

}  // namespace

Executor::Executor(Device& device, Memory& memory, std::unique_ptr<Network> network, const TypeRules& types,
                   const StreamingOptions& options)
    : device_(device),
      memory_(memory),
      network_(std::move(network)),
      own_stages_(network_->stages().size()),
      store_(device, *network_, types),
      options_(options),
      measured_seconds_(network_->stages().size(), 0) {
    report_.network = network_->name();
    memory_.add(*this);
}

Executor::~Executor() { memory_.remove(*this); }

void Executor::extend(const std::function<void(Declaration&)>& declare) {
    const size_t before = network_->stages().size();
    forget_plan();
    try {
        const size_t first = network_->weights().all().size();
        declare(network_->declaration());
        store_.extend(first);
        measured_seconds_.resize(network_->stages().size(), 0);
    } catch (...) {
        cut(before);
        throw;
    }
}

// No graph refers to a weight that goes, and no upload is under way.
void Executor::cut(size_t stages) {
    forget_plan();
    whole_.reset();  // it may have run stages that go
    const auto& all = network_->stages();
    const size_t weights = stages < all.size() ? all[stages].first_weight : network_->weights().all().size();
    store_.cut(stages, weights);
    network_->declaration().cut(std::min(stages, all.size()), weights);
    measured_seconds_.resize(network_->stages().size());
}

std::string Executor::stage_name(size_t stage) const {
    const std::string& own = network_->stages()[stage].name;
    return own.starts_with(network_->name() + ".") ? own : network_->name() + "." + own;
}

// Bytes of all weights on the device, except those that it reads from the mapped file.
uint64_t Executor::copied_bytes(const std::vector<size_t>& stages) const {
    uint64_t sum = 0;
    for (const size_t stage : stages)
        sum += device_.maps_host_memory() ? store_.copied_bytes(stage) : store_.stage_bytes(stage);
    return sum;
}

// Bytes that a run as one graph takes in addition to weights.
uint64_t Executor::whole_workspace(const Flow& flow, int batch) const {
    const UnionBytes all = flow.extent(0, flow.count() - 1, device_.buffer_type());
    return (all.compute + all.carry_in + all.carry_out) * static_cast<uint64_t>(batch);
}

Memory::Limit Executor::limit(const Flow& flow, const std::vector<size_t>& stages, int batch) {
    Memory::Limit out = memory_.limit([&] { return copied_bytes(stages) + whole_workspace(flow, batch); });
    const bool may_stream = options_.stream_layers && options_.offload_to_cpu;
    if (!memory_.limited() && !may_stream) out.plan_bytes = 0;
    return out;
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

Executor::Planned Executor::choose(const Flow& flow, const std::vector<size_t>& stages, int batch, uint64_t budget,
                                   uint64_t reserved) {
    Planned out;
    out.options.budget_bytes = budget;
    out.options.reserved_bytes = reserved;
    out.options.policy = options_.policy;
    out.options.stream_layers = options_.stream_layers;
    out.options.offload_to_cpu = options_.offload_to_cpu;
    out.options.max_resident = options_.max_resident;
    out.options.microbatches = batch;
    out.options.allocated_once = true;
    out.options.max_slot_bytes = ggml_backend_buft_get_max_size(device_.buffer_type());
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

// The prefetcher's loads: residents when their stage is first needed, the plan's pieces in each pass.
std::shared_ptr<Prefetcher> Executor::make_prefetcher(const Prepared& prepared) {
    const std::vector<size_t>& stages = prepared.selection.stages;
    const Plan& plan = prepared.planned.plan;
    std::vector<Prefetcher::Load> loads;
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
    // other parts of the network may run next
    const bool part = stages.size() < own_stages_;
    return std::make_shared<Prefetcher>(device_, store_, std::move(loads),
                                        by_stages ? stages.size() : plan.segments.size(),
                                        !ahead ? Prefetcher::Mode::on_demand
                                        : part ? Prefetcher::Mode::by_pass
                                               : Prefetcher::Mode::ahead);
}

Executor::Laid Executor::lay(const std::vector<Array>& inputs, const Selection& selection,
                             const Planned& planned) const {
    const Plan& plan = planned.plan;
    Laid out;
    out.flow = std::make_unique<Flow>(*network_, device_.kernels(), selection, inputs, plan.group);
    out.carries = lay_out(out.flow->carries(), plan.segments, plan.together / plan.group);
    for (const PlannedSegment& s : plan.segments) {
        const GraphLayout layout = layout_of(*out.flow, s.first, s.last);
        out.sizes.push_back(layout.bytes());
        out.buffers.resize(std::max(out.buffers.size(), layout.buffer_bytes().size()));
        for (size_t i = 0; i < layout.buffer_bytes().size(); ++i)
            out.buffers[i] = std::max(out.buffers[i], layout.buffer_bytes()[i]);
    }
    out.workspace = std::accumulate(out.buffers.begin(), out.buffers.end(), uint64_t{0});
    out.total = plan.resident_bytes + std::accumulate(plan.slots.begin(), plan.slots.end(), uint64_t{0}) +
                out.workspace + out.flow->scratch_bytes() + out.carries.bytes;
    return out;
}

GraphLayout Executor::layout_of(const Flow& flow, size_t first, size_t last) const {
    const auto nowhere = [](size_t) { return Address{}; };
    return {flow.build(first, last, nowhere).graph, device_.buffer_type()};
}

// A plan that takes at most `room` bytes, 0 for any number, when it is laid out. Throws OverBudget with what is enough.
std::pair<Executor::Planned, Executor::Laid> Executor::plan_within(const std::vector<Array>& inputs,
                                                                   const Selection& selection, const Flow& flow,
                                                                   uint64_t room, uint64_t reserved) {
    const auto batch = static_cast<int>(batch_of(inputs));
    Laid laid;
    const auto planned_for = [&](uint64_t budget) {
        Planned planned = choose(flow, selection.stages, batch, budget, reserved);
        planned.options.budget_bytes = room;
        laid = lay(inputs, selection, planned);
        return planned;
    };
    if (room == 0) {
        Planned planned = planned_for(0);
        return {std::move(planned), std::move(laid)};
    }
    uint64_t least = 0;  // the planner's
    for (uint64_t attempt = 0, slack = 0; attempt < max_tries && slack < room; ++attempt) {
        try {
            Planned planned = planned_for(room - slack);
            if (laid.total <= room) return {std::move(planned), std::move(laid)};
            slack += (laid.total - room) << attempt;  // the next plan may be one that takes even more
        } catch (const OverBudget& problem) {
            least = problem.least_bytes() - reserved;
            break;
        }
    }
    if (least == 0) {
        try {
            (void)choose(flow, selection.stages, batch, 1, reserved);
        } catch (const OverBudget& problem) {
            least = problem.least_bytes() - reserved;
        }
    }
    Planned planned;
    for (uint64_t part = room > least ? smaller_budgets : 0;; --part) {
        planned =
            planned_for(std::max<uint64_t>(least + (room > least ? (room - least) / smaller_budgets * part : 0), 1));
        if (laid.total <= room) return {std::move(planned), std::move(laid)};
        if (part == 0) break;
    }
    fail_over_budget(planned.stages, planned.options, memory_.budget_for(laid.total));
}

// `place`: weights get the places that the plan gives them; otherwise they have them by `placed_`, or get them back.
std::unique_ptr<Executor::Prepared> Executor::realize(const std::vector<Array>& inputs, const Selection& selection,
                                                      Planned planned, Laid laid, const Memory::Limit& limit,
                                                      bool place) {
    auto made = std::make_unique<Prepared>();
    made->selection = selection;
    made->shapes = shapes_of(inputs);
    made->planned = std::move(planned);
    const Plan& plan = made->planned.plan;
    made->flow = std::move(laid.flow);
    made->layout = laid.carries;
    const uint64_t budget = made->planned.options.budget_bytes, scratch = made->flow->scratch_bytes();
    const std::vector<uint64_t>& buffers = laid.buffers;
    uint64_t total = laid.total;

    // If all weights are loaded to stay, each stage of the first run computes as soon as its own weights are there.
    // Values between stages take room then, at addresses that serve the one graph of later runs, too.
    bool by_stages = budget == 0 && !made->planned.mapped && !store_.placed() && selection.stages.size() > 1;
    if (by_stages) {
        const CarryLayout layout =
            lay_out(made->flow->carries(), single_stages(selection.stages.size()), made->groups());
        const auto fits = [&](const std::vector<uint64_t>& needed) {
            return needed.size() <= buffers.size() &&
                   std::equal(needed.begin(), needed.end(), buffers.begin(), std::less_equal<>());
        };
        for (size_t i = 0; by_stages && i < selection.stages.size(); ++i)
            by_stages = fits(layout_of(*made->flow, i, i).buffer_bytes());
        by_stages = by_stages && total + layout.bytes <= device_.free_bytes();
        if (by_stages) {
            total += layout.bytes - std::min(layout.bytes, made->layout.bytes);
            made->layout = layout;
        }
    }

    uint64_t taken = total;
    for (const size_t stage : selection.stages)
        taken -= made->planned.mapped ? store_.stage_bytes(stage) - store_.copied_bytes(stage) : 0;
    // Workspaces for earlier inputs go before others lose weights.
    if (!prepared_.empty() && limit.all_bytes < taken + held_workspace() + memory_.weights_of_others(*this))
        prepared_.clear();
    memory_.make_room(*this, taken + held_workspace(), limit);
    if (place)
        place_weights(selection.stages, made->planned);
    else
        place_weights(placed_->stages, placed_->planned);
    made->loads = store_.unloaded_bytes() > 0;
    made->carries = device_.allocate(MemoryClass::carries, made->layout.bytes);
    try {
        made->scratch = device_.memory().take(MemoryClass::workspace, scratch);
        for (const uint64_t bytes : buffers) {
            made->workspace.push_back(device_.allocate(MemoryClass::workspace, bytes));
            ggml_backend_buffer_set_usage(made->workspace.back().buffer.get(), GGML_BACKEND_BUFFER_USAGE_COMPUTE);
        }
    } catch (const Error& problem) {
        if (problem.status() != SDCPP_OUT_OF_MEMORY) throw;
        fail(SDCPP_OUT_OF_MEMORY, network_->name(), " needs a workspace of ", laid.workspace >> 20, " MiB on device ",
             device_.name(), ", which is not free; use a smaller picture, or vae_tiling for the decoder");
    }
    for (const PlannedSegment& s : plan.segments) {
        auto& variants = made->graphs.emplace_back();
        for (int group = 0; group < made->groups(); ++group)
            variants.push_back(
                made->flow->build(s.first, s.last, [&](size_t carry) { return made->address(carry, group); }));
    }
    const auto address = [&](size_t carry) { return made->address(carry, 0); };
    for (size_t i = 0; by_stages && i < selection.stages.size(); ++i)
        made->first_run.push_back(made->flow->build(i, i, address));
    std::vector<ggml_backend_buffer_t> memory;
    for (const DeviceBuffer& buffer : made->workspace) memory.push_back(buffer.buffer.get());
    const auto place_values = [&](const SegmentGraph& graph) {
        const GraphLayout layout(graph.graph, device_.buffer_type());
        for (size_t i = 0; i < layout.buffer_bytes().size(); ++i)
            if (i >= buffers.size() || layout.buffer_bytes()[i] > buffers[i])
                fail(SDCPP_INTERNAL, "the workspace grew while graphs were laid out");
        if (!layout.apply(memory)) fail(SDCPP_OUT_OF_MEMORY, "device ", device_.name(), " ran out of memory");
    };
    for (const auto& variants : made->graphs)
        for (const SegmentGraph& graph : variants) place_values(graph);
    for (const SegmentGraph& graph : made->first_run) place_values(graph);
    made->planned.plan.workspace_bytes = laid.workspace + scratch;
    made->planned.plan.carry_bytes = made->layout.bytes;
    made->planned.plan.peak_bytes = total;
    for (size_t i = 0; i < laid.sizes.size(); ++i)
        made->planned.plan.segments[i].compute_bytes = laid.sizes[i] + scratch;
    made->segment_seconds.assign(plan.segments.size(), 0);
    return made;
}

Executor::Prepared& Executor::prepare(const std::vector<Array>& inputs, const Selection& selection) {
    const auto shapes = shapes_of(inputs);
    for (const auto& known : prepared_)
        if (known->shapes == shapes && known->selection == selection) return *known;

    const bool part = selection.stages.size() < own_stages_;
    if (!part)
        whole_ = Whole{without_data(inputs), selection};
    else if (!placed_ && whole_)
        place_whole();
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const Memory::Limit all = limit(flow, selection.stages, static_cast<int>(batch_of(inputs)));
    if (prepared_.size() >= max_prepared) prepared_.erase(prepared_.begin());
    if (all.plan_bytes > 0)
        if (auto adopted = adopt(inputs, selection, flow, all)) return *prepared_.emplace_back(std::move(adopted));
    if (all.plan_bytes > 0 || placed_) forget_plan();
    return *prepared_.emplace_back(plan_anew(inputs, selection, flow, all));
}

// Parts of the network run by the plan of all of it, so that weights stay where they are from part to part.
void Executor::place_whole() {
    const auto& [inputs, selection] = *whole_;
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const Memory::Limit all = limit(flow, selection.stages, static_cast<int>(batch_of(inputs)));
    if (all.plan_bytes == 0) return;
    forget_plan();
    prepared_.push_back(plan_anew(inputs, selection, flow, all));
}

// Weights keep the places of a plan for other inputs, or come back there, if the memory for these inputs fits in
// addition: only workspace and carries change.
std::unique_ptr<Executor::Prepared> Executor::adopt(const std::vector<Array>& inputs, const Selection& selection,
                                                    const Flow& flow, const Memory::Limit& limit) {
    if (!placed_) return nullptr;
    std::vector<size_t> numbers;  // these stages' numbers among the plan's stages
    for (const size_t stage : selection.stages) {
        const auto at = std::find(placed_->stages.begin(), placed_->stages.end(), stage);
        if (at == placed_->stages.end()) return nullptr;
        numbers.push_back(static_cast<size_t>(at - placed_->stages.begin()));
        if (numbers.size() > 1 && numbers.back() <= numbers[numbers.size() - 2]) return nullptr;
    }
    if (placed_->prefetcher && placed_->prefetcher_stages != selection.stages) give_workspace();
    const auto batch = static_cast<int>(batch_of(inputs));
    Planned planned = placed_->planned;
    if (selection.stages != placed_->stages) planned.plan = subset_plan(planned.plan, numbers);
    planned.stages = planned_stages(flow, selection.stages);
    planned.options.budget_bytes = limit.plan_bytes;
    planned.options.microbatches = batch;
    for (const auto& [together, group] : {std::pair{batch, batch}, {batch, 1}, {1, 1}}) {
        planned.plan.together = together;
        planned.plan.group = group;
        planned.plan.passes = batch / together;
        planned.plan.streamed_bytes_per_step =
            std::accumulate(planned.plan.streamed.begin(), planned.plan.streamed.end(), uint64_t{0}) *
            static_cast<uint64_t>(planned.plan.passes);
        try {
            Laid laid = lay(inputs, selection, planned);
            if (laid.total > limit.plan_bytes) continue;
            auto made = realize(inputs, selection, planned, std::move(laid), limit, false);
            Plan& plan = made->planned.plan;
            plan.predicted_step_seconds = predicted_seconds(planned.stages, planned.options, plan);
            plan.limit_step_seconds = limit_seconds(planned.stages, planned.options);
            if (!placed_->prefetcher) {
                placed_->prefetcher = make_prefetcher(*made);
                placed_->prefetcher_stages = selection.stages;
            }
            made->prefetcher = placed_->prefetcher;
            made->adopted = made->shapes != placed_->shapes;
            log(SDCPP_LOG_DEBUG, network_->name() + ": weights keep the places of the plan for other inputs");
            return made;
        } catch (const Error& problem) {
            if (problem.status() != SDCPP_OUT_OF_MEMORY) throw;
        }
    }
    return nullptr;
}

// First with the memory that the other networks leave. If weights would be streamed then, the others give memory up.
std::unique_ptr<Executor::Prepared> Executor::plan_anew(const std::vector<Array>& inputs, const Selection& selection,
                                                        const Flow& flow, Memory::Limit limit) {
    const uint64_t unclaimed = device_.queues_uploads() ? device_.unclaimed_bytes() : 0;
    uint64_t others = limit.plan_bytes > 0 ? memory_.weights_of_others(*this) : 0;
    for (int attempt = 0;; ++attempt) {
        try {
            uint64_t room = 0;
            if (limit.plan_bytes > 0) {
                if (others >= limit.plan_bytes) others = 0;
                room = limit.plan_bytes - others;
            }
            auto [planned, laid] = plan_within(inputs, selection, flow, room, limit.reserved_bytes);
            if (others > 0 && !planned.plan.pieces.empty()) {
                others = 0;
                continue;
            }
            auto made = realize(inputs, selection, std::move(planned), std::move(laid), limit, true);
            made->prefetcher = make_prefetcher(*made);
            made->unclaimed_before = unclaimed;
            if (room > 0) {
                const Plan& plan = made->planned.plan;
                placed_ = Placed{made->shapes, selection.stages, made->planned, selection.stages, made->prefetcher};
                log(SDCPP_LOG_INFO, network_->name() + ": " + std::to_string(plan.resident_bytes >> 20) +
                                        " MiB resident, " + std::to_string(plan.streamed_bytes_per_step >> 20) +
                                        " MiB streamed a step, policy " + policy_name(plan.policy));
            }
            return made;
        } catch (const OverBudget&) {
            if (others == 0 || attempt >= max_tries) throw;
            others = 0;
        } catch (const Error& problem) {
            if (problem.status() != SDCPP_OUT_OF_MEMORY || attempt >= max_tries) throw;
            memory_.clear_others(*this);
            others = 0;
            release();
            if (!options_.stream_layers || !options_.offload_to_cpu) throw;
            const uint64_t free = device_.free_bytes(), before = limit.plan_bytes;
            limit.plan_bytes = limit.all_bytes = std::min(before > 0 ? before - before / 8 : free, free);
            if (limit.plan_bytes == 0) throw;
            log(SDCPP_LOG_WARNING, std::string(problem.what()) + "; planning again with " +
                                       std::to_string(limit.plan_bytes >> 20) + " MiB");
        }
    }
}

// With all of the network's own stages by number if none is named.
Selection Executor::completed(Selection selection) const {
    if (selection.stages.empty()) {
        selection.stages.resize(own_stages_);
        std::iota(selection.stages.begin(), selection.stages.end(), size_t{0});
    }
    return selection;
}

Executor::Demand Executor::demand(const std::vector<Array>& inputs, const Selection& given) {
    const Selection selection = completed(given);
    const auto batch = static_cast<int>(batch_of(inputs));
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const Memory::Limit all = limit(flow, selection.stages, batch);
    if (all.plan_bytes == 0)
        return {copied_bytes(selection.stages), whole_workspace(flow, batch), false, all.all_bytes};
    try {
        const Plan plan = plan_within(inputs, selection, flow, all.plan_bytes, all.reserved_bytes).first.plan;
        return {plan.resident_bytes, plan.peak_bytes - plan.resident_bytes, !plan.pieces.empty(), all.all_bytes};
    } catch (const OverBudget&) {  // smaller tiles, or an error when it runs
        return {0, all.all_bytes, true, all.all_bytes};
    }
}

bool Executor::fits(const std::vector<Array>& inputs) {
    const Selection selection = completed({});
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const uint64_t budget = limit(flow, selection.stages, static_cast<int>(batch_of(inputs))).plan_bytes;
    if (budget == 0) return true;
    try {
        (void)plan_within(inputs, selection, flow, budget, 0);
        return true;
    } catch (const OverBudget&) {
        return false;
    }
}

RunReport Executor::preview(const std::vector<Array>& inputs, const Selection& given) {
    const Selection selection = completed(given);
    const auto batch = static_cast<int>(batch_of(inputs));
    const Flow flow(*network_, device_.kernels(), selection, inputs, 1);
    const Memory::Limit all = limit(flow, selection.stages, batch);
    Planned planned =
        plan_within(inputs, selection, flow,
                    all.plan_bytes > 0 ? all.plan_bytes : std::min(all.all_bytes, ample_budget), all.reserved_bytes)
            .first;
    RunReport out;
    out.network = network_->name();
    out.stages = std::move(planned.stages);
    out.options = planned.options;
    out.plan = std::move(planned.plan);
    return out;
}

// Weights may be used in place in their file. Looking at them ends the process once the file is cut, so the file is
// checked between operations. A file that could not be held, and is cut while an operation reads it, still ends it.
void Executor::compute(const SegmentGraph& graph) {
    std::function<bool()> must_stop;
    if (store_.mapped_bytes() > 0) must_stop = [this] { return store_.mapped_files_changed(); };
    try {
        if (profile_)
            profile_->compute(device_, network_->name(), graph, must_stop);
        else
            device_.compute(graph.graph, must_stop);
    } catch (const Error&) {
        store_.require_mapped_files_unchanged();
        throw;
    }
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
        prepared.prefetcher->wait(i);
        const auto start = Clock::now();
        compute(prepared.first_run[i]);
        prepared.segment_seconds[0] += seconds_since(start);
    }
    for (size_t s = 0; !loading && s < plan.segments.size(); ++s) {
        prepared.prefetcher->wait(s);
        const auto start = Clock::now();
        for (const SegmentGraph& graph : prepared.graphs[s]) compute(graph);
        prepared.segment_seconds[s] += seconds_since(start);
        prepared.prefetcher->done();
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
    memory_.begin_turn(*this);
    if (std::exchange(interrupted_, false) || store_.stale()) give_workspace();
    Prepared* prepared = &prepare(inputs, selection);
    const Plan& plan = prepared->planned.plan;
    std::vector<std::vector<float>> values(selection.wanted());
    interrupted_ = true;
    const std::vector<double> before = prepared->segment_seconds;
    const std::vector<MappedFile::Hold> hold = store_.hold_mapped_files();
    store_.require_mapped_files_unchanged();
    if (prepared->runs < calibration::settled_runs) device_.require_room(prepared->flow->scratch_bytes());
    for (int pass = 0; pass < plan.passes; ++pass) run_pass(*prepared, inputs, pass, values);
    store_.require_mapped_files_unchanged();
    interrupted_ = false;
    std::vector<Array> outputs;
    for (size_t i = 0; i < values.size(); ++i) {
        const auto& ne = prepared->flow->carries()[prepared->flow->results()[i]].ne;
        const auto rank = static_cast<std::ptrdiff_t>(network_->result_rank());
        std::vector<int64_t> shape(ne.rend() - rank, ne.rend());
        shape.front() = prepared->batch();
        outputs.push_back(Array::of(selection.name_of(i), std::move(shape), std::move(values[i])));
    }

    const Prefetcher::Counts counts = prepared->prefetcher->take_counts();
    const double seconds = seconds_since(start);
    report_.stages = prepared->planned.stages;
    report_.options = prepared->planned.options;
    std::vector<double> spent = prepared->segment_seconds;
    for (size_t s = 0; s < plan.segments.size(); ++s) spent[s] -= before[s];
    const double computing = std::accumulate(spent.begin(), spent.end(), 0.0);
    report_.compute_seconds += computing;
    if (prepared->runs == 0 && (prepared->loads || !prepared->adopted)) {
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
    if (device_.queues_uploads() && (prepared->runs == 1 || prepared->runs == calibration::settled_runs)) {
        device_.count_backend_bytes(prepared->unclaimed_before);
        prepared->unclaimed_before = device_.unclaimed_bytes();
        if (prepared->planned.options.budget_bytes > 0 && memory_.passed()) {
            log(SDCPP_LOG_INFO, network_->name() + ": planned again with what the device's driver takes");
            forget_plan();
            device_.restart_backend();
            return outputs;
        }
    }
    if (prepared->adopted) {
        if (prepared->runs == calibration::runs_to_stay && worth_planning_anew(*prepared, inputs)) forget_plan();
        return outputs;
    }
    // The first run was slowed down by loading; backends that record graphs do so in the next ones.
    const bool telling =
        prepared->runs == 2 || (prepared->runs == calibration::settled_runs && device_.queues_uploads());
    if (telling && prepared->planned.options.budget_bytes > 0) {
        if (counts.upload_seconds > 0 && counts.uploaded_bytes > calibration::telling_upload_bytes &&
            device_.paced_link_bytes_per_s() == 0) {
            Device::Speed speed = device_.speed();
            speed.link_bytes_per_s = static_cast<double>(counts.uploaded_bytes) / counts.upload_seconds;
            device_.set_speed(speed);
        }
        learn(*prepared, spent);
    }
    return outputs;
}

// Whether a plan made for these inputs would be faster than the plan that gave the weights their places.
bool Executor::worth_planning_anew(const Prepared& prepared, const std::vector<Array>& inputs) {
    const Flow flow(*network_, device_.kernels(), prepared.selection, inputs, 1);
    try {
        const Planned fresh =
            choose(flow, prepared.selection.stages, prepared.batch(), prepared.planned.options.budget_bytes);
        return fresh.plan.predicted_step_seconds <
               (1 - calibration::surprising_share) * prepared.planned.plan.predicted_step_seconds;
    } catch (const OverBudget&) {
        return false;
    }
}

// Takes a run's measurements: stage times, the link's speed. If they are far from the plan's figures and a better
// plan is known now, the next run makes it.
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
    options.dispatch_seconds = 0;  // measured times include it
    const double expected = planned.plan.predicted_step_seconds;
    const double now = predicted_seconds(measured, options, planned.plan);
    for (size_t i = 0; i < prepared.selection.stages.size(); ++i)
        measured_seconds_[prepared.selection.stages[i]] = measured[i].seconds;
    planned.stages = measured;
    planned.options = options;
    planned.plan.predicted_step_seconds = now;
    planned.plan.limit_step_seconds = limit_seconds(measured, options);
    const bool by_times = options.policy == Policy::automatic || options.policy == Policy::pipelined;
    const bool as_expected = std::abs(now - expected) <= calibration::surprising_share * expected;
    // a part of the stages runs by the plan of all, which may be far from the part's own limit
    const bool may_gain = prepared.selection.stages.size() == network_->stages().size() &&
                          calibration::worth_a_new_plan * now > planned.plan.limit_step_seconds;
    if (!by_times || planned.plan.pieces.empty() || replans_ == calibration::max_new_plans ||
        (as_expected && !may_gain))
        return;
    Plan better;
    try {
        better = make_plan(measured, options);
    } catch (const OverBudget&) {
        return;
    }
    if (better.predicted_step_seconds >= calibration::worth_a_new_plan * now) return;
    report_.replanned = true;
    ++replans_;
    log(SDCPP_LOG_INFO, network_->name() + ": planned again with measured times");
    forget_plan();
    device_.restart_backend();  // it has recorded graphs that are not run again
}

// No graph refers to a place that a weight had, and no upload ahead of use is under way.
void Executor::set_sources(std::vector<std::pair<size_t, WeightSourcePtr>> sources) {
    give_workspace();
    for (auto& [number, source] : sources) network_->weights().all()[number].source = std::move(source);
}

void Executor::rest() {
    if (!placed_) give_workspace();
}

uint64_t Executor::held_workspace() const {
    uint64_t sum = 0;
    for (const auto& prepared : prepared_) {
        sum += prepared->scratch.bytes() + prepared->carries.lease.bytes();
        for (const DeviceBuffer& buffer : prepared->workspace) sum += buffer.lease.bytes();
    }
    return sum;
}

void Executor::give_workspace() {
    prepared_.clear();
    if (placed_) placed_->prefetcher.reset();  // it may stand somewhere within a pass
    if (device_.kernels().gemm) device_.kernels().gemm->trim();
}

void Executor::give_weights(uint64_t bytes) {
    store_.give_back(bytes);
    if (device_.is_cpu()) give_back_freed_memory();  // a budget may be for the process
}

void Executor::forget_plan() {
    give_workspace();
    placed_.reset();
}

void Executor::release() {
    forget_plan();
    give_weights(Memory::unlimited);
}

RunReport Executor::take_report() {
    RunReport out = std::exchange(report_, {});
    replans_ = 0;
    report_.network = network_->name();
    return out;
}

}  // namespace sdcpp
