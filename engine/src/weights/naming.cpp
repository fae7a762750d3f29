#include "weights/naming.h"

#include <algorithm>
#include <charconv>

#include "base/stop.h"

namespace sdcpp {

FileNames::FileNames(const TensorFile& file, std::string slot) : slot_(std::move(slot)) {
    auto tensors = std::make_shared<std::map<std::string_view, const TensorInfo*>>();
    for (const TensorInfo& tensor : file.tensors) tensors->emplace(tensor.name, &tensor);
    tensors_ = std::move(tensors);
}

FileNames FileNames::under(std::string_view prefix) const {
    FileNames out = *this;
    out.prefix_ += prefix;
    return out;
}

const TensorInfo* FileNames::find(std::string_view name) const {
    const auto found = tensors_->find(prefix_.empty() ? name : std::string_view(prefix_ + std::string(name)));
    return found == tensors_->end() ? nullptr : found->second;
}

void FileNames::each(const std::function<void(std::string_view, const TensorInfo&)>& visit) const {
    for (auto at = tensors_->lower_bound(prefix_); at != tensors_->end() && at->first.starts_with(prefix_); ++at) {
        stop_point();
        visit(at->first.substr(prefix_.size()), *at->second);
    }
}

int64_t FileNames::side_of_ending(std::string_view ending, size_t d) const {
    int64_t side = 0;
    each([&](std::string_view name, const TensorInfo& tensor) {
        if (side == 0 && name.ends_with(ending) && tensor.shape.size() > d) side = tensor.shape[d];
    });
    return side;
}

int FileNames::count(std::string_view before, std::string_view after) const {
    int count = 0;
    each([&](std::string_view name, const TensorInfo&) {
        if (const auto number = take_number(name, before, after)) count = std::max(count, *number + 1);
    });
    return count;
}

bool replace_first(std::string& text, std::string_view from, std::string_view to) {
    const size_t at = text.find(from);
    if (at == std::string::npos) return false;
    text.replace(at, from.size(), to);
    return true;
}

bool replace_start(std::string& text, const Rules& rules) {
    for (const auto& [from, to] : rules) {
        if (!text.starts_with(from)) continue;
        text.replace(0, from.size(), to);
        return true;
    }
    return false;
}

std::optional<int> take_number(std::string_view& text, std::string_view before, std::string_view after) {
    if (!text.starts_with(before)) return std::nullopt;
    int number = 0;
    const char* first = text.data() + before.size();
    const auto [end, ec] = std::from_chars(first, text.data() + text.size(), number);
    if (ec != std::errc() || number < 0 || number > 999) return std::nullopt;
    const std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
    if (!rest.starts_with(after)) return std::nullopt;
    text = rest.substr(after.size());
    return number;
}

}  // namespace sdcpp
