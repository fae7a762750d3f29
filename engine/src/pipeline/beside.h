// Networks beside a model that take a picture, ControlNets and IP-Adapters among them: what their files and choices
// have in common.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

namespace sdcpp {

struct BesideChoice {
    std::filesystem::path path;
    double strength = 1;
    double start = 0, end = 1;  // share of the steps: all of a step must lie within
};

// Throws SDCPP_INVALID_ARGUMENT for more choices than are possible at a time. `what`: the networks' title, in plural.
void require_count(size_t count, std::string_view what);
// Throws SDCPP_INVALID_ARGUMENT for a strength or a share that cannot be.
void require_choice(const BesideChoice& choice);

// Whether it counts in step `step` of `steps`, as diffusers counts.
bool counts(const BesideChoice& choice, size_t step, size_t steps);

// When a file was last written; some time before all others if it is not there.
std::filesystem::file_time_type written_at(const std::filesystem::path& path);

// How many files in use, from the first on, are those of the choices, and have not changed.
template <typename InUse, typename Choice>
size_t still_open(const std::vector<InUse>& in_use, const std::vector<Choice>& choices) {
    const auto same = [](const InUse& used, const Choice& choice) {
        const auto& files = used.file.files->files();
        return used.choice.path == choice.path && used.written == written_at(choice.path) &&
               std::none_of(files.begin(), files.end(), [](const auto& file) { return file->changed(); });
    };
    size_t count = 0;
    while (count < std::min(in_use.size(), choices.size()) && same(in_use[count], choices[count])) ++count;
    return count;
}

}  // namespace sdcpp
