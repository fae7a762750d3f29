#include "weights/names.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/stop.h"

namespace sdcpp {
namespace {

constexpr std::string_view unknown = "unknown.", mark = "mark.";

// A component that tensors of a file belong to, and the prefix under which they stand there.
struct Found {
    const Naming* naming = nullptr;
    std::string_view prefix{};
    int facts = 0;
};

// The one of `namings` that most facts speak for, under no prefix or one of its own.
Found most_likely(const FileNames& names, const Namings& namings, bool under_prefixes) {
    Found best;
    const auto look = [&](const Naming* naming, std::string_view prefix) {
        const int facts = naming->recognises(prefix.empty() ? names : names.under(prefix));
        if (facts > best.facts) best = {naming, prefix, facts};
    };
    for (const Naming* naming : namings) {
        look(naming, "");
        if (!under_prefixes) continue;
        for (const std::string_view prefix : naming->prefixes) look(naming, prefix);
    }
    return best;
}

// The rows of a fused tensor that the `number`-th part has; nothing if they cannot be cut so.
std::optional<TensorInfo> cut(const TensorInfo& whole, const Fusion& fusion, size_t number) {
    const auto parts = static_cast<int64_t>(fusion.parts.size());
    const std::vector<int64_t> shares =
        fusion.shares.empty() ? std::vector<int64_t>(fusion.parts.size(), 1) : fusion.shares;
    const int64_t all = fusion.shares.empty() ? parts : std::accumulate(shares.begin(), shares.end(), int64_t{0});
    if (whole.shape.empty() || whole.shape[0] == 0 || whole.shape[0] % all != 0) return std::nullopt;
    const auto at = shares.begin() + static_cast<std::ptrdiff_t>(number);
    const int64_t before = std::accumulate(shares.begin(), at, int64_t{0}), unit = whole.shape[0] / all;
    // the values in a unit of shares
    const int64_t values = whole.count() / all, block = dtype_block(whole.type);
    if (values % block != 0) return std::nullopt;
    const size_t unit_bytes = static_cast<size_t>(values / block) * dtype_block_bytes(whole.type);
    TensorInfo out = whole;
    out.shape[0] = unit * *at;
    out.bytes = whole.bytes.subspan(static_cast<size_t>(before) * unit_bytes, static_cast<size_t>(*at) * unit_bytes);
    out.first_row += unit * before;
    return out;
}

void add(std::vector<NamedTensor>& out, const Naming& naming, const std::string& own, const TensorInfo& tensor) {
    if (own.empty()) return;
    const std::string name = std::string(naming.name) + "." + own;
    for (const Fusion& fusion : naming.fused) {
        if (!own.ends_with(fusion.ending) || !cut(tensor, fusion, 0)) continue;
        const std::string stem = name.substr(0, name.size() - fusion.ending.size());
        for (size_t i = 0; i < fusion.parts.size(); ++i)
            out.push_back({stem + std::string(fusion.parts[i]), *cut(tensor, fusion, i)});
        return;
    }
    out.push_back({name, tensor});
}

// A file of one component.
std::vector<NamedTensor> of_one(const TensorFile& file, const FileNames& names, const Found& found) {
    const FileNames own = names.under(found.prefix);
    const Renamer rename = found.naming->renamer ? found.naming->renamer(own) : nullptr;
    std::vector<NamedTensor> out;
    for (const TensorInfo& tensor : file.tensors) {
        stop_point();
        if (!tensor.name.starts_with(found.prefix)) continue;
        const std::string plain = tensor.name.substr(found.prefix.size());
        add(out, *found.naming, rename ? rename(plain) : plain, tensor);
    }
    return out;
}

// A file of several components, whose prefixes say what belongs to which.
std::vector<NamedTensor> by_prefixes(const TensorFile& file, const FileNames& names, const Namings& namings) {
    struct Under {
        const Naming* naming;  // null if none of the components that share the prefix fits
        Renamer rename;
    };
    std::map<std::string_view, Under, std::greater<>> prefixes;
    for (const Naming* naming : namings)
        for (const std::string_view prefix : naming->prefixes) prefixes[prefix] = {};
    for (auto& [prefix, under] : prefixes) {
        Namings sharing;
        for (const Naming* naming : namings)
            if (std::find(naming->prefixes.begin(), naming->prefixes.end(), prefix) != naming->prefixes.end())
                sharing.push_back(naming);
        const FileNames own = names.under(prefix);
        under.naming = sharing.size() == 1 ? sharing.front() : most_likely(own, sharing, false).naming;
        if (under.naming && under.naming->renamer) under.rename = under.naming->renamer(own);
    }
    std::vector<NamedTensor> out;
    for (const TensorInfo& tensor : file.tensors) {
        stop_point();
        const std::string_view name = tensor.name;
        const std::string_view* longest = nullptr;
        for (const auto& [prefix, under] : prefixes)
            if (name.starts_with(prefix) && (!longest || prefix.size() > longest->size())) longest = &prefix;
        if (!longest) {
            if (name.find('.') == std::string_view::npos) out.push_back({std::string(mark) + tensor.name, tensor});
            continue;
        }
        const Under& under = prefixes.at(*longest);
        const std::string plain = tensor.name.substr(longest->size());
        if (!under.naming)
            out.push_back({std::string(unknown) + plain, tensor});
        else
            add(out, *under.naming, under.rename ? under.rename(plain) : plain, tensor);
    }
    return out;
}

}  // namespace

std::vector<NamedTensor> canonical_tensors(const TensorFile& file, const FileRole& role, const Namings& namings) {
    const FileNames names(file, role.slot);
    if (role.part.empty()) {
        const Found found = most_likely(names, namings, false);
        return found.naming ? of_one(file, names, found) : by_prefixes(file, names, namings);
    }
    Namings possible;
    std::set<std::string> known;
    for (const Naming* naming : namings) {
        known.insert({std::string(naming->name), std::string(naming->kind)});
        if (naming->name == role.part || naming->kind == role.part) possible.push_back(naming);
    }
    if (possible.empty()) {
        std::string all;
        for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
        fail(SDCPP_INVALID_ARGUMENT, "unknown part '", role.part, "'; there are ", all);
    }
    const Found found = most_likely(names, possible, true);
    if (found.naming) return of_one(file, names, found);
    if (const Naming* other = most_likely(names, namings, true).naming)
        fail(SDCPP_INVALID_ARGUMENT, file.files.empty() ? "a file" : file.files.front()->path().filename().string(),
             " is given as ", role.part, ", but it holds '", other->name, "'; give it as that");
    if (possible.size() == 1) return of_one(file, names, {possible.front()});
    std::vector<NamedTensor> out;
    for (const TensorInfo& tensor : file.tensors) out.push_back({std::string(unknown) + tensor.name, tensor});
    return out;
}

}  // namespace sdcpp
