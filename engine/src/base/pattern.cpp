#include "base/pattern.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>

namespace sdcpp {
namespace {

using Letters = std::bitset<256>;

Letters letters_that(int (*is)(int)) {
    Letters out;
    for (int letter = 0; letter < 128; ++letter) out[static_cast<size_t>(letter)] = is(letter) != 0;
    return out;
}

Letters word_letters() {
    Letters out = letters_that(std::isalnum);
    out['_'] = true;
    return out;
}

Letters only(char letter) {
    Letters out;
    out[static_cast<unsigned char>(letter)] = true;
    return out;
}

// The letters of `\d` and the like.
std::optional<Letters> named_letters(char name) {
    switch (name) {
        case 'd':
            return letters_that(std::isdigit);
        case 'D':
            return ~letters_that(std::isdigit);
        case 'w':
            return word_letters();
        case 'W':
            return ~word_letters();
        case 's':
            return letters_that(std::isspace);
        case 'S':
            return ~letters_that(std::isspace);
        default:
            return std::nullopt;
    }
}

}  // namespace

// Reads an expression from its end to its beginning of the program: each part is written once what follows is known.
class PatternReader {
  public:
    PatternReader(std::string_view text, Pattern& out) : text_(text), out_(out) {}

    void read() {
        const Part all = alternatives();
        if (at_ < text_.size()) refuse("a ) without its (");
        out_.first_ = all(add({Pattern::Kind::found}));
    }

  private:
    // Writes itself before the step `next`; gives its own first step.
    using Part = std::function<size_t(size_t next)>;

    [[noreturn]] void refuse(const std::string& what) const {
        throw std::invalid_argument(what + " at letter " + std::to_string(at_ + 1));
    }
    bool more() const { return at_ < text_.size(); }
    char peek() const { return text_[at_]; }
    bool take(char letter) {
        if (!more() || peek() != letter) return false;
        ++at_;
        return true;
    }
    size_t add(Pattern::Step step) {
        if (out_.steps_.size() >= Pattern::max_steps) refuse("too many repetitions");
        out_.steps_.push_back(std::move(step));
        return out_.steps_.size() - 1;
    }

    Part alternatives() {
        Part left = sequence();
        while (take('|')) {
            left = [this, a = std::move(left), b = sequence()](size_t next) {
                const size_t first = a(next), second = b(next);
                return add({Pattern::Kind::fork, {}, first, second});
            };
        }
        return left;
    }

    Part sequence() {
        std::vector<Part> parts;
        while (more() && peek() != '|' && peek() != ')') parts.push_back(repeated());
        return [parts = std::move(parts)](size_t next) {
            for (auto part = parts.rbegin(); part != parts.rend(); ++part) next = (*part)(next);
            return next;
        };
    }

    // A part and what says how often.
    Part repeated() {
        constexpr int without_end = std::numeric_limits<int>::max();
        const size_t start = at_;
        Part part = single();
        int least = 1, most = 1;
        if (take('*')) {
            least = 0, most = without_end;
        } else if (take('+')) {
            most = without_end;
        } else if (take('?')) {
            least = 0;
        } else if (take('{')) {
            least = most = number();
            if (take(',')) most = more() && peek() != '}' ? number() : without_end;
            if (!take('}') || most < least) refuse("{} that says no number of times");
        } else {
            return part;
        }
        take('?');  // lazy: nothing is kept of what is found, so it is the same
        if (more() && (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')) refuse("nothing to repeat");
        if (text_[start] == '^' || text_[start] == '$') refuse("nothing to repeat");
        return [this, part = std::move(part), least, most](size_t next) {
            const auto write = [&](size_t behind) {
                // a part may be empty, and so may what repeats it
                if (++repetitions_ > Pattern::max_steps) refuse("too many repetitions");
                return part(behind);
            };
            size_t first = next;
            if (most == without_end) {
                const size_t loop = add({Pattern::Kind::fork, {}, next, next});
                const size_t body = write(loop);
                out_.steps_[loop].other = body;
                first = loop;
            } else {
                for (int i = least; i < most; ++i) {
                    const size_t body = write(first);
                    first = add({Pattern::Kind::fork, {}, next, body});
                }
            }
            for (int i = 0; i < least; ++i) first = write(first);
            return first;
        };
    }

    int number() {
        int value = 0;
        if (!more() || !std::isdigit(static_cast<unsigned char>(peek()))) refuse("a number is missing in {}");
        for (; more() && std::isdigit(static_cast<unsigned char>(peek())); ++at_) {
            value = 10 * value + (peek() - '0');
            if (value > 1000) refuse("too many repetitions");
        }
        return value;
    }

    Part mark(Pattern::Kind kind) {
        return [this, kind](size_t next) { return add({kind, {}, next}); };
    }
    Part one_of(const Letters& letters) {
        return [this, letters](size_t next) { return add({Pattern::Kind::letters, letters, next}); };
    }

    Part single() {
        const char letter = text_[at_++];
        switch (letter) {
            case '(': {
                if (take('?') && !take(':')) refuse("(? with anything but : behind it");
                if (++depth_ > 50) refuse("too many groups within each other");
                Part inner = alternatives();
                --depth_;
                if (!take(')')) refuse("a ( without its )");
                return inner;
            }
            case '[':
                return one_of(set());
            case '.': {
                Letters any = ~Letters();
                any['\n'] = any['\r'] = false;
                return one_of(any);
            }
            case '^':
                return mark(Pattern::Kind::begin);
            case '$':
                return mark(Pattern::Kind::end);
            case '*':
            case '+':
            case '?':
            case '{':
                --at_;
                refuse("nothing to repeat");
            case '\\':
                if (take('b')) return mark(Pattern::Kind::boundary);
                if (take('B')) return mark(Pattern::Kind::no_boundary);
                return one_of(escaped());
            default:
                return one_of(only(letter));
        }
    }

    // The letters that a backslash and the next letter stand for.
    Letters escaped() {
        if (!more()) refuse("nothing behind a backslash");
        const char letter = text_[at_++];
        if (const auto named = named_letters(letter)) return *named;
        constexpr std::string_view names = "tnrfv", meant = "\t\n\r\f\v";
        if (const size_t place = names.find(letter); place != std::string_view::npos) return only(meant[place]);
        if (std::isalnum(static_cast<unsigned char>(letter))) refuse("an unknown letter behind a backslash");
        return only(letter);
    }

    // `[…]`, behind the bracket.
    Letters set() {
        Letters out;
        const bool others = take('^');
        if (more() && peek() == ']') refuse("an empty set");
        while (!take(']')) {
            if (!more()) refuse("a [ without its ]");
            const bool by_name = peek() == '\\' && at_ + 1 < text_.size() && named_letters(text_[at_ + 1]);
            const char from = text_[at_++];
            if (from == '[' && more() && (peek() == ':' || peek() == '.' || peek() == '='))
                refuse("a set within a set");
            const Letters first = from == '\\' ? escaped() : only(from);
            const bool range = more() && peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
            if (!range || by_name) {
                out |= first;
                continue;
            }
            ++at_;
            const char to = text_[at_++];
            const Letters last = to == '\\' ? escaped() : only(to);
            size_t a = 0, b = 0;
            while (!first[a]) ++a;
            while (!last[b]) ++b;
            if (last.count() != 1 || b < a) refuse("a range that goes backwards");
            for (; a <= b; ++a) out[a] = true;
        }
        return others ? ~out : out;
    }

    std::string_view text_;
    Pattern& out_;
    size_t at_ = 0;
    int depth_ = 0;
    size_t repetitions_ = 0;
};

Pattern::Pattern(std::string_view text) {
    if (text.size() > max_length) throw std::invalid_argument("more than " + std::to_string(max_length) + " letters");
    PatternReader(text, *this).read();
}

bool Pattern::found_in(std::string_view text) const {
    static const Letters word = word_letters();
    std::vector<size_t> now, then, open;
    std::vector<size_t> seen(steps_.size(), std::numeric_limits<size_t>::max());  // the last place of each step
    const auto is_word = [&](size_t place) {
        return place < text.size() && word[static_cast<unsigned char>(text[place])];
    };
    // Takes up `step` and those that need no letter at `place`; true if it is found.
    const auto take_up = [&](size_t step, size_t place, std::vector<size_t>& into) {
        open.push_back(step);
        while (!open.empty()) {
            const size_t number = open.back();
            open.pop_back();
            if (seen[number] == place) continue;
            seen[number] = place;
            const Step& s = steps_[number];
            const bool boundary = (place > 0 && is_word(place - 1)) != is_word(place);
            switch (s.kind) {
                case Kind::found:
                    open.clear();
                    return true;
                case Kind::letters:
                    into.push_back(number);
                    break;
                case Kind::fork:
                    open.push_back(s.other);
                    open.push_back(s.next);
                    break;
                case Kind::begin:
                    if (place == 0) open.push_back(s.next);
                    break;
                case Kind::end:
                    if (place == text.size()) open.push_back(s.next);
                    break;
                case Kind::boundary:
                    if (boundary) open.push_back(s.next);
                    break;
                case Kind::no_boundary:
                    if (!boundary) open.push_back(s.next);
                    break;
            }
        }
        return false;
    };
    for (size_t place = 0;; ++place) {
        if (take_up(first_, place, now)) return true;
        if (place == text.size()) return false;
        then.clear();
        for (const size_t number : now)
            if (steps_[number].letters[static_cast<unsigned char>(text[place])] &&
                take_up(steps_[number].next, place + 1, then))
                return true;
        now.swap(then);
    }
}

}  // namespace sdcpp
