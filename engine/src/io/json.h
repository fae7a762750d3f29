// A small strict JSON reader (RFC 8259; NaN and infinities, as Python writes them, are null) for file headers and
// config files: bounded depth, errors with positions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sdcpp {

class Json {
  public:
    using Array = std::vector<Json>;
    using Object = std::map<std::string, Json, std::less<>>;

    Json() = default;
    template <typename T>
    explicit Json(T value) : value_(std::move(value)) {}

    // Throws Error(SDCPP_BAD_FILE) on anything that is not one JSON value.
    static Json parse(std::string_view text);
    std::string dump() const;

    const Array* array() const { return std::get_if<Array>(&value_); }
    const Object* object() const { return std::get_if<Object>(&value_); }
    const std::string* string() const { return std::get_if<std::string>(&value_); }
    const bool* boolean() const { return std::get_if<bool>(&value_); }
    // Numbers: `integer` only if the text had no fraction or exponent and fits 64 bits.
    const int64_t* integer() const { return std::get_if<int64_t>(&value_); }
    bool number(double& out) const;

    // The member `key` of an object, null (a Json without value) if there is none or this is no object.
    const Json& operator[](std::string_view key) const;
    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }

    // Typed members, with a default if the member is absent or of another type.
    double number_or(std::string_view key, double otherwise) const;
    std::string string_or(std::string_view key, std::string_view otherwise) const;
    bool boolean_or(std::string_view key, bool otherwise) const;
    // A member that is one integer or a list of them; empty if absent.
    std::vector<int> integers(std::string_view key) const;

  private:
    std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

// An array of texts or of whole numbers.
template <typename Values>
Json json_list(const Values& values) {
    Json::Array out;
    for (const auto& value : values)
        if constexpr (std::is_integral_v<std::decay_t<decltype(value)>>)
            out.emplace_back(static_cast<int64_t>(value));
        else
            out.emplace_back(value);
    return Json(std::move(out));
}

}  // namespace sdcpp
