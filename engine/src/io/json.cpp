#include "io/json.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/stop.h"

namespace sdcpp {
namespace {

constexpr int max_depth = 64;

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json document() {
        Json value = any(0);
        skip_space();
        if (at_ != text_.size()) bad("text after the value");
        return value;
    }

  private:
    [[noreturn]] void bad(const char* what) const { fail(SDCPP_BAD_FILE, "JSON: ", what, " at byte ", at_); }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    }
    bool take(char c) {
        skip_space();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void expect(char c, const char* what) {
        if (!take(c)) bad(what);
    }
    bool take_word(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Json any(int depth) {
        if (depth > max_depth) bad("nested too deeply");
        stop_point();
        skip_space();
        if (at_ >= text_.size()) bad("value expected");
        switch (text_[at_]) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return Json(string());
            default:
                break;
        }
        if (take_word("true")) return Json(true);
        if (take_word("false")) return Json(false);
        if (take_word("null")) return Json();
        // Python writes these for numbers that JSON has no words for.
        for (const char* word : {"NaN", "Infinity", "-Infinity"})
            if (take_word(word)) return Json();
        return number();
    }

    Json object(int depth) {
        Json::Object members;
        ++at_;
        if (take('}')) return Json(std::move(members));
        do {
            skip_space();
            if (at_ >= text_.size() || text_[at_] != '"') bad("member name expected");
            std::string key = string();
            expect(':', "':' expected");
            if (!members.emplace(std::move(key), any(depth + 1)).second) bad("a member stands twice");
        } while (take(','));
        expect('}', "'}' expected");
        return Json(std::move(members));
    }

    Json array(int depth) {
        Json::Array items;
        ++at_;
        if (take(']')) return Json(std::move(items));
        do items.push_back(any(depth + 1));
        while (take(','));
        expect(']', "']' expected");
        return Json(std::move(items));
    }

    Json number() {
        const size_t start = at_;
        while (at_ < text_.size() && std::string_view("+-.0123456789eE").find(text_[at_]) != std::string_view::npos)
            ++at_;
        const char* first = text_.data() + start;
        const char* last = text_.data() + at_;
        int64_t whole = 0;
        if (auto [end, ec] = std::from_chars(first, last, whole); ec == std::errc() && end == last) return Json(whole);
        double real = 0;
        if (auto [end, ec] = std::from_chars(first, last, real); first == last || ec != std::errc() || end != last) {
            at_ = start;
            bad("value expected");
        }
        return Json(real);
    }

    unsigned hex4() {
        unsigned code = 0;
        if (text_.size() - at_ < 4) bad("four hex digits expected");
        const char* first = text_.data() + at_;
        if (auto [end, ec] = std::from_chars(first, first + 4, code, 16); ec != std::errc() || end != first + 4)
            bad("four hex digits expected");
        at_ += 4;
        return code;
    }

    static void append_utf8(std::string& out, unsigned code) {
        const auto put = [&](unsigned byte) { out.push_back(static_cast<char>(byte)); };
        if (code < 0x80) return put(code);
        if (code < 0x800) {
            put(0xC0 | code >> 6);
        } else {
            if (code < 0x10000) {
                put(0xE0 | code >> 12);
            } else {
                put(0xF0 | code >> 18);
                put(0x80 | (code >> 12 & 0x3F));
            }
            put(0x80 | (code >> 6 & 0x3F));
        }
        put(0x80 | (code & 0x3F));
    }

    std::string string() {
        std::string out;
        ++at_;
        while (true) {
            if (at_ >= text_.size()) bad("string without end");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) bad("control character in a string");
            if (c != '\\') {
                out.push_back(c);
                continue;
            }
            if (at_ >= text_.size()) bad("string without end");
            const char escape = text_[at_++];
            if (escape == 'u') {
                unsigned code = hex4();
                if (code >= 0xD800 && code < 0xDC00 && take_word("\\u")) {
                    const unsigned low = hex4();
                    if (low < 0xDC00 || low > 0xDFFF) bad("half a surrogate pair");
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                append_utf8(out, code);
                continue;
            }
            constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
            const size_t which = from.find(escape);
            if (which == std::string_view::npos) bad("unknown escape");
            out.push_back(to[which]);
        }
    }

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text) { return Parser(text).document(); }

bool Json::number(double& out) const {
    if (const auto* whole = std::get_if<int64_t>(&value_)) return out = static_cast<double>(*whole), true;
    if (const auto* real = std::get_if<double>(&value_)) return out = *real, true;
    return false;
}

const Json& Json::operator[](std::string_view key) const {
    static const Json none;
    const Object* members = object();
    if (!members) return none;
    const auto found = members->find(key);
    return found == members->end() ? none : found->second;
}

double Json::number_or(std::string_view key, double otherwise) const {
    double value = 0;
    return (*this)[key].number(value) ? value : otherwise;
}

std::string Json::string_or(std::string_view key, std::string_view otherwise) const {
    const std::string* value = (*this)[key].string();
    return value ? *value : std::string(otherwise);
}

bool Json::boolean_or(std::string_view key, bool otherwise) const {
    const bool* value = (*this)[key].boolean();
    return value ? *value : otherwise;
}

std::vector<int> Json::integers(std::string_view key) const {
    std::vector<int> out;
    const auto add = [&](const Json& item) {
        const int64_t* whole = item.integer();
        if (whole && *whole > -(1 << 30) && *whole < (1 << 30)) out.push_back(static_cast<int>(*whole));
    };
    const Json& member = (*this)[key];
    if (const Array* items = member.array())
        for (const Json& item : *items) add(item);
    else
        add(member);
    return out;
}

namespace {

void write_text(std::string& out, const std::string& text) {
    static const char* digits = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20) {
            out += "\\u00";
            out += digits[byte >> 4];
            out += digits[byte & 15];
        } else {
            out += c;
        }
    }
    out += '"';
}

void write_value(std::string& out, const Json& value) {
    double number = 0;
    if (const Json::Array* items = value.array()) {
        out += '[';
        for (size_t i = 0; i < items->size(); ++i) {
            if (i > 0) out += ", ";
            write_value(out, (*items)[i]);
        }
        out += ']';
    } else if (const Json::Object* members = value.object()) {
        out += '{';
        for (const auto& [key, member] : *members) {
            if (out.back() != '{') out += ", ";
            write_text(out, key);
            out += ": ";
            write_value(out, member);
        }
        out += '}';
    } else if (value.string()) {
        write_text(out, *value.string());
    } else if (value.boolean()) {
        out += *value.boolean() ? "true" : "false";
    } else if (value.integer()) {
        out += std::to_string(*value.integer());
    } else if (value.number(number) && std::isfinite(number)) {
        std::array<char, 32> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        out.append(digits.data(), end);
    } else {
        out += "null";
    }
}

}  // namespace

std::string Json::dump() const {
    std::string out;
    write_value(out, *this);
    return out;
}

}  // namespace sdcpp
