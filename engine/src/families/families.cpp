#include "families/family.h"

#include <algorithm>
#include <cctype>

namespace sdcpp {

const std::vector<const Family*>& families() {
    static const std::vector<const Family*> all = {
        &sd1,       &sd2,    &sdxl,          &sdxl_refiner,      &z_image_family,
        &flux_1,    &krea_2, &flux_2_family, &qwen_image_family, &chroma,
        &sd3_family};
    return all;
}

const Family& default_family() { return sd1; }

const Family& family_of(const ModelFiles& files) {
    const Family* best = &default_family();
    int most = 0;
    for (const Family* family : families())
        if (const int facts = family->recognises(files); facts > most) {
            best = family;
            most = facts;
        }
    return *best;
}

std::vector<std::string_view> TextRecipe::encoders() const {
    std::vector<std::string_view> out;
    const auto add = [&](std::string_view name) {
        if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    };
    for (const auto& row : context)
        for (const TextStates& one : row) add(one.encoder);
    for (const PooledFrom& one : pooled) add(one.encoder);
    return out;
}

bool denoiser_is_named(const ModelFiles& files, const Family& family, std::string_view word) {
    const auto first = files.tensors().lower_bound(std::string(family.denoiser) + ".");
    if (first == files.tensors().end()) return false;
    std::string name = files.file_of(first->second.bytes).path().filename().string();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    const auto letter_at = [&](size_t place) {
        return place < name.size() && std::isalpha(static_cast<unsigned char>(name[place]));
    };
    for (size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1))
        if ((at == 0 || !letter_at(at - 1)) && !letter_at(at + word.size())) return true;
    return false;
}

bool marked_v(const ModelFiles& files) { return files.find("mark.v_pred") != nullptr; }

}  // namespace sdcpp
