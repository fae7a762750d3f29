#include "pipeline/block_cache.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "base/error.h"

namespace sdcpp {
namespace {

size_t stage_named(const Denoiser& net, const std::string& name) {
    const auto& stages = net.stages();
    for (size_t i = 0; i < stages.size(); ++i)
        if (stages[i].name == name) return i;
    fail(SDCPP_INTERNAL, net.name(), " has no stage ", name);
}

// The stages of each block of its list: the one that is named after it, and those that belong to it.
std::vector<std::vector<size_t>> blocks_of(const Denoiser& net) {
    std::vector<std::vector<size_t>> out;
    const std::string list = net.blocks().name;
    if (list.empty()) return out;
    const auto& stages = net.stages();
    for (size_t i = 0; i < stages.size(); ++i) {
        if (stages[i].name == list + "." + std::to_string(out.size()))
            out.push_back({i});
        else if (!out.empty() && out.back().back() + 1 == i && stages[i].same_block)
            out.back().push_back(i);
    }
    return out;
}

std::vector<float> difference(std::span<const float> a, std::span<const float> b) {
    std::vector<float> out(a.size());
    for (size_t i = 0; i < a.size(); ++i) out[i] = a[i] - b[i];
    return out;
}

double mean_size(std::span<const float> values) {
    double sum = 0;
    for (const float value : values) sum += std::abs(value);
    return sum / static_cast<double>(values.size());
}

// The inputs, some of them replaced by others of the same names, and others added.
std::vector<Array> with(std::vector<Array> inputs, const std::vector<Array>& others) {
    for (const Array& other : others) {
        const auto at =
            std::find_if(inputs.begin(), inputs.end(), [&](const Array& one) { return one.name == other.name; });
        if (at == inputs.end())
            inputs.push_back(other);
        else
            *at = other;
    }
    return inputs;
}

}  // namespace

Selection without_blocks(const Denoiser& net, const std::vector<int>& blocks) {
    const auto all = blocks_of(net);
    if (all.empty())
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"slg_scale"},
             " is for diffusion transformers, some of whose blocks are left out; this model has a ", net.name(),
             ": leave it out, or take guidance_rescale or apg_eta");
    std::vector<bool> runs(net.stages().size(), true);
    for (const int block : blocks) {
        if (block < 0 || static_cast<size_t>(block) >= all.size())
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"skip_layers"}, " has ", block, "; this model's blocks are 0 to ",
                 all.size() - 1);
        for (const size_t stage : all[static_cast<size_t>(block)]) runs[stage] = false;
    }
    Selection out;
    for (size_t i = 0; i < runs.size(); ++i)
        if (runs[i]) out.stages.push_back(i);
    return out;
}

BlockCache::BlockCache(Executor& executor, double threshold)
    : executor_(executor), list_(executor.as<Denoiser>().blocks()), threshold_(threshold) {
    const auto& net = executor.as<Denoiser>();
    const auto blocks = blocks_of(net);
    if (blocks.empty())
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"cache_mode"},
             " first_block is for diffusion transformers; this model has a ", net.name(),
             ": take easycache or taylorseer");
    const size_t before = stage_named(net, list_.before), after = stage_named(net, list_.after);
    const size_t first = blocks.front().back();
    std::vector<size_t> shared;
    for (const std::string& name : list_.shared) shared.push_back(stage_named(net, name));
    for (size_t i = 0; i < net.stages().size(); ++i) {
        const bool again = std::find(shared.begin(), shared.end(), i) != shared.end();
        if (i <= first) head_.stages.push_back(i);
        if (again || i > first) body_.stages.push_back(i);
        if (again || i == after) tail_.stages.push_back(i);
    }
    const std::string& state = list_.states.front();
    head_.results = list_.states;
    head_.taps = {{state, before}};
    body_.taps = {{state, after - 1}};
    for (size_t i = 0; i < net.stages().size(); ++i) whole_.stages.push_back(i);
    whole_.taps = {{state, before}, {state, first}, {state, after - 1}};
}

Array BlockCache::all(const std::vector<Array>& inputs, Known& known) {
    std::vector<Array> made = executor_.run(inputs, whole_);
    known.first = difference(made[2].floats(), made[1].floats());
    learn_rest(made[2], made[3], known);
    return std::move(made.front());
}

// The last state may have other tokens ahead of the picture's.
void BlockCache::learn_rest(const Array& head, const Array& last, Known& known) const {
    known.rest.assign(static_cast<size_t>(last.count()), 0.0f);
    const int64_t rows = last.shape.front();
    const size_t each = known.rest.size() / static_cast<size_t>(rows);
    for (int64_t row = 0; row < rows; ++row) {
        const auto from = head.row(row), to = last.row(row);
        const size_t ahead = to.size() - from.size();
        for (size_t i = 0; i < from.size(); ++i)
            known.rest[static_cast<size_t>(row) * each + ahead + i] = to[ahead + i] - from[i];
    }
}

Array BlockCache::run(const std::vector<Array>& inputs, const std::vector<size_t>& conditionings, bool may_skip,
                      bool& skipped) {
    skipped = false;
    Known& known = known_[conditionings];
    if (known.first.empty()) return all(inputs, known);
    std::vector<Array> head = executor_.run(inputs, head_);
    const Array before = std::move(head.back());
    head.pop_back();
    const Array& state = head.front();
    std::vector<float> first = difference(state.floats(), before.floats());
    skipped = may_skip && first.size() == known.first.size();
    const size_t each = first.size() / static_cast<size_t>(state.shape.front());
    for (size_t at = 0; skipped && at < first.size(); at += each) {
        const auto now = std::span(first).subspan(at, each), then = std::span(known.first).subspan(at, each);
        skipped = mean_size(difference(now, then)) < threshold_ * mean_size(then);
    }
    if (!skipped) {
        std::vector<Array> made = executor_.run(with(inputs, head), body_);
        known.first = std::move(first);
        learn_rest(state, made.back(), known);
        return std::move(made.front());
    }
    std::vector<float> last = known.rest;
    const int64_t rows = state.shape.front();
    const size_t wide = last.size() / static_cast<size_t>(rows);
    for (int64_t row = 0; row < rows; ++row) {
        const auto own = state.row(row);
        for (size_t i = 0; i < own.size(); ++i) last[static_cast<size_t>(row + 1) * wide - own.size() + i] += own[i];
    }
    std::vector<int64_t> shape = state.shape;
    shape[1] = static_cast<int64_t>(wide) / shape.back();
    head.front() = Array::of(state.name, std::move(shape), std::move(last));
    return std::move(executor_.run(with(inputs, head), tail_).front());
}

}  // namespace sdcpp
