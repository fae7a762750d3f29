#include "models/conditioning.h"

#include <algorithm>

#include "base/error.h"

namespace sdcpp {

const Conditioning::Item* Conditioning::find(std::string_view name) const {
    for (const Item& item : items)
        if (item.array.name == name) return &item;
    return nullptr;
}

const Array& Conditioning::at(std::string_view name) const {
    const Item* item = find(name);
    if (!item) fail(SDCPP_INVALID_ARGUMENT, "the conditioning comes from another model: it has no ", name);
    return item->array;
}

bool joinable(const Conditioning& a, const Conditioning& b) {
    return a.items.size() == b.items.size() &&
           std::all_of(a.items.begin(), a.items.end(), [&](const Conditioning::Item& mine) {
               const Conditioning::Item* other = b.find(mine.array.name);
               if (!other || other->join != mine.join || other->array.shape.size() != mine.array.shape.size())
                   return false;
               for (size_t side = 0; side < mine.array.shape.size(); ++side)
                   if (mine.array.shape[side] != other->array.shape[side] &&
                       (side != 1 || mine.join != Conditioning::Join::pad))
                       return false;
               return true;
           });
}

Array joined(const std::vector<const Conditioning*>& rows, std::string_view name, int64_t multiple) {
    std::vector<int64_t> shape = rows.front()->at(name).shape;
    const bool padded = shape.size() > 2;
    if (padded) {
        for (const Conditioning* row : rows) shape[1] = std::max(shape[1], row->at(name).shape[1]);
        shape[1] = (shape[1] + multiple - 1) / multiple * multiple;
    }
    shape[0] = 1;
    int64_t each = 1;
    for (const int64_t side : shape) each *= side;
    std::vector<float> values;
    values.reserve(rows.size() * static_cast<size_t>(each));
    for (size_t n = 0; n < rows.size(); ++n) {
        const std::span<const float> own = rows[n]->at(name).floats();
        values.insert(values.end(), own.begin(), own.end());
        values.resize((n + 1) * static_cast<size_t>(each), 0.0f);
    }
    shape[0] = static_cast<int64_t>(rows.size());
    return Array::of(std::string(name), std::move(shape), std::move(values));
}

}  // namespace sdcpp
