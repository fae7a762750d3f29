#include "io/pickle.h"

#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/stop.h"

namespace sdcpp::pickle {
namespace {

using Kind = Value::Kind;

// Far more than any checkpoint's values take.
constexpr size_t max_bytes = 128ull << 20, max_depth = 1ull << 20;

[[noreturn]] void damaged(std::string_view what) { fail(SDCPP_BAD_FILE, "the pickle is damaged: ", what); }

// By the storage's class, or by the name of a type in newer files.
std::optional<DType> type_named(std::string_view global) {
    static const std::map<std::string_view, DType> types = {{"torch FloatStorage", from_ggml(GGML_TYPE_F32)},
                                                            {"torch HalfStorage", from_ggml(GGML_TYPE_F16)},
                                                            {"torch BFloat16Storage", from_ggml(GGML_TYPE_BF16)},
                                                            {"torch DoubleStorage", from_ggml(GGML_TYPE_F64)},
                                                            {"torch LongStorage", from_ggml(GGML_TYPE_I64)},
                                                            {"torch IntStorage", from_ggml(GGML_TYPE_I32)},
                                                            {"torch ShortStorage", from_ggml(GGML_TYPE_I16)},
                                                            {"torch CharStorage", from_ggml(GGML_TYPE_I8)},
                                                            {"torch ByteStorage", DType::u8},
                                                            {"torch BoolStorage", DType::boolean},
                                                            {"torch Float8_e4m3fnStorage", DType::f8_e4m3},
                                                            {"torch Float8_e5m2Storage", DType::f8_e5m2},
                                                            {"torch float8_e4m3fn", DType::f8_e4m3},
                                                            {"torch float8_e5m2", DType::f8_e5m2},
                                                            {"torch.storage UntypedStorage", DType::u8},
                                                            {"torch UntypedStorage", DType::u8}};
    const auto found = types.find(global);
    return found == types.end() ? std::nullopt : std::optional(found->second);
}

bool makes_tensors(std::string_view global) {
    return global.starts_with("torch._utils _rebuild_") || global.starts_with("torch._tensor _rebuild_");
}

}  // namespace

class Machine {
  public:
    Machine(Pickle& out, std::span<const std::byte> bytes) : out_(out), bytes_(bytes) {}

    Value* run() {
        while (true) {
            const auto op = take<uint8_t>();
            if (op == '.') return pop();
            step(op);
        }
    }

  private:
    // Counts the memory of the values. Each is paid for before it is made.
    void pay(size_t bytes) {
        spent_ += bytes;
        if (spent_ > max_bytes)
            fail(SDCPP_BAD_FILE, "the pickle holds too many values; save the weights alone as safetensors");
    }
    Value* make(Kind kind) {
        pay(sizeof(Value));
        out_.values_.emplace_back().kind = kind;
        return &out_.values_.back();
    }
    Value* make_text(Kind kind, std::string_view text) {
        Value* value = make(kind);
        value->text = text;
        return value;
    }
    std::string_view keep(std::string text) {
        pay(sizeof(std::string) + text.size());
        return out_.texts_.emplace_back(std::move(text));
    }

    std::string_view take_text(uint64_t size) {
        if (size > bytes_.size() - at_) fail(SDCPP_BAD_FILE, "a record runs past the end; the file is truncated");
        const auto found = bytes_.subspan(at_, size);
        at_ += size;
        return {reinterpret_cast<const char*>(found.data()), found.size()};
    }
    template <typename T>
    T take() {
        T value{};
        std::memcpy(&value, take_text(sizeof(T)).data(), sizeof(T));
        return value;
    }
    std::string_view take_line() {
        const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
        const size_t end = rest.find('\n');
        if (end == std::string_view::npos) damaged("a line without an end");
        at_ += end + 1;
        return rest.substr(0, end);
    }

    void push(Value* value) {
        if (stack_.size() >= max_depth) fail(SDCPP_BAD_FILE, "the pickle is too deep");
        stack_.push_back(value);
    }
    Value* pop() {
        Value* value = top();
        stack_.pop_back();
        return value;
    }
    Value* top() {
        if (stack_.empty()) damaged("nothing on the stack");
        return stack_.back();
    }
    std::vector<Value*> pop_to_mark() {
        if (marks_.empty() || marks_.back() > stack_.size()) damaged("no mark");
        const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
        std::vector<Value*> items(first, stack_.end());
        stack_.erase(first, stack_.end());
        marks_.pop_back();
        return items;
    }
    void push_opaque() { push(&opaque_); }
    void push_items(Kind kind, std::vector<Value*> items) {
        pay(items.size() * sizeof(Value*));
        Value* value = make(kind);
        value->items = std::move(items);
        push(value);
    }
    void push_last(size_t count) {
        std::vector<Value*> items(count);
        for (size_t i = count; i-- > 0;) items[i] = pop();
        push_items(Kind::sequence, std::move(items));
    }
    void push_integer(int64_t number) {
        Value* value = make(Kind::integer);
        value->integer = number;
        push(value);
    }
    void push_decimal(std::string_view digits) {
        if (digits.ends_with('L')) digits.remove_suffix(1);
        int64_t number = 0;
        const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
        if (problem != std::errc() || end != digits.data() + digits.size()) return push_opaque();
        push_integer(number);
    }
    // Two's complement, little endian.
    void push_long(uint64_t size) {
        const std::string_view bytes = take_text(size);
        if (size > sizeof(int64_t)) return push_opaque();
        uint64_t number = 0;
        for (size_t i = 0; i < size; ++i) number |= uint64_t{static_cast<uint8_t>(bytes[i])} << 8 * i;
        if (size > 0 && size < 8 && (number >> (8 * size - 1) & 1)) number |= ~0ull << 8 * size;
        push_integer(static_cast<int64_t>(number));
    }
    void push_string(std::string_view text) { push(make_text(Kind::string, text)); }
    void push_global(std::string_view module, std::string_view name) {
        std::string text = std::string(module) + " " + std::string(name);
        const auto known = globals_.find(text);
        if (known != globals_.end()) return push(known->second);
        Value* value = make_text(Kind::global, keep(std::move(text)));
        globals_.emplace(value->text, value);
        push(value);
    }

    void get(uint64_t slot) {
        const auto found = memo_.find(slot);
        if (found == memo_.end()) damaged("empty memo slot");
        push(found->second);
    }
    void put(uint64_t slot) {
        if (memo_.insert_or_assign(slot, top()).second) pay(48);  // a node of the table
    }
    void put_decimal(bool putting) {
        const std::string_view digits = take_line();
        uint64_t slot = 0;
        if (std::from_chars(digits.data(), digits.data() + digits.size(), slot).ec != std::errc())
            damaged("a memo slot");
        if (putting) return put(slot);
        get(slot);
    }

    // Puts items into the container on top; one that is opaque swallows them.
    void extend(const std::vector<Value*>& items, Kind kind) {
        Value* target = top();
        if (target->kind != kind && target->kind != Kind::opaque) damaged("wrong container");
        if (target->kind == Kind::opaque) return;
        if (kind == Kind::dict && items.size() % 2 != 0) damaged("a key without a value");
        pay(2 * items.size() * sizeof(Value*));  // vectors double
        target->items.insert(target->items.end(), items.begin(), items.end());
    }

    void step(uint8_t op) {
        stop_point();
        switch (op) {
            case 0x80:  // PROTO
                take<uint8_t>();
                return;
            case 0x95:  // FRAME
                take<uint64_t>();
                return;
            case '(':
                if (marks_.size() >= max_depth) fail(SDCPP_BAD_FILE, "the pickle is too deep");
                return marks_.push_back(stack_.size());
            case '0':
                pop();
                return;
            case '1':
                pop_to_mark();
                return;
            case '2':
                return push(top());

            case 'N':
            case 0x88:
            case 0x89:  // None, True, False
            case 0x97:  // NEXT_BUFFER
            case 0x8f:  // EMPTY_SET
                return push_opaque();
            case 0x98:  // READONLY_BUFFER
                return;
            case 'I':
            case 'L':
                return push_decimal(take_line());
            case 'J':
                return push_integer(take<int32_t>());
            case 'K':
                return push_integer(take<uint8_t>());
            case 'M':
                return push_integer(take<uint16_t>());
            case 0x8a:
                return push_long(take<uint8_t>());
            case 0x8b:
                return push_long(take<uint32_t>());
            case 'F':
                take_line();
                return push_opaque();
            case 'G':
                take<uint64_t>();
                return push_opaque();

            case 'S': {
                const std::string_view quoted = take_line();
                return push_string(quoted.size() < 2 ? quoted : quoted.substr(1, quoted.size() - 2));
            }
            case 'V':
                return push_string(take_line());
            case 'T':
            case 'X':
                return push_string(take_text(take<uint32_t>()));
            case 'U':
            case 0x8c:
                return push_string(take_text(take<uint8_t>()));
            case 0x8d:
                return push_string(take_text(take<uint64_t>()));
            case 'B':  // bytes and byte arrays
                take_text(take<uint32_t>());
                return push_opaque();
            case 'C':
                take_text(take<uint8_t>());
                return push_opaque();
            case 0x8e:
            case 0x96:
                take_text(take<uint64_t>());
                return push_opaque();

            case '}':
                return push_items(Kind::dict, {});
            case ']':
            case ')':
                return push_items(Kind::sequence, {});
            case 'd': {
                std::vector<Value*> items = pop_to_mark();
                push_items(Kind::dict, {});
                return extend(items, Kind::dict);
            }
            case 'l':
            case 't':
                return push_items(Kind::sequence, pop_to_mark());
            case 0x85:
            case 0x86:
            case 0x87:
                return push_last(op - 0x84u);
            case 'a':
                return extend({pop()}, Kind::sequence);
            case 'e':
                return extend(pop_to_mark(), Kind::sequence);
            case 's': {
                Value *value = pop(), *key = pop();
                return extend({key, value}, Kind::dict);
            }
            case 'u':
                return extend(pop_to_mark(), Kind::dict);
            case 0x90:  // ADDITEMS, to a set
                pop_to_mark();
                top();
                return;
            case 0x91:  // FROZENSET
                pop_to_mark();
                return push_opaque();

            case 'q':
                return put(take<uint8_t>());
            case 'r':
                return put(take<uint32_t>());
            case 'p':
                return put_decimal(true);
            case 0x94:
                return put(memo_.size());
            case 'h':
                return get(take<uint8_t>());
            case 'j':
                return get(take<uint32_t>());
            case 'g':
                return put_decimal(false);

            case 'c': {
                const std::string_view module = take_line();
                return push_global(module, take_line());
            }
            case 0x93: {
                const Value *name = pop(), *module = pop();
                return push_global(module->text, name->text);
            }
            case 0x82:  // EXT1, EXT2, EXT4: globals by numbers
                take<uint8_t>();
                return push_opaque();
            case 0x83:
                take<uint16_t>();
                return push_opaque();
            case 0x84:
                take<uint32_t>();
                return push_opaque();
            case 'P':
                take_line();
                return push_opaque();
            case 'Q':
                return persistent();
            case 'R':
                return reduce();
            case 0x81: {  // NEWOBJ
                pop();
                const bool dict = pop()->text == "torch.nn.modules.container ParameterDict";
                return dict ? push(make(Kind::dict)) : push_opaque();
            }
            case 0x92:  // NEWOBJ_EX
                pop();
                pop();
                pop();
                return push_opaque();
            case 'i':  // INST
                take_line();
                take_line();
                pop_to_mark();
                return push_opaque();
            case 'o':  // OBJ
                pop_to_mark();
                return push_opaque();
            case 'b':  // BUILD: an object's attributes
                build(pop());
                return;
            default:
                damaged("opcode " + std::to_string(op));
        }
    }

    // PyTorch's ParameterDict keeps its items in an attribute.
    void build(const Value* state) {
        Value* target = top();
        if (target->kind != Kind::dict || state->kind != Kind::dict) return;
        for (size_t i = 0; i + 1 < state->items.size(); i += 2)
            if (state->items[i]->text == "_parameters" && state->items[i + 1]->kind == Kind::dict) {
                const std::vector<Value*> items = state->items[i + 1]->items;  // which may be the target's
                pay(2 * items.size() * sizeof(Value*));
                target->items.insert(target->items.end(), items.begin(), items.end());
            }
    }

    // ('storage', class, key, location, count)
    void persistent() {
        const Value* id = pop();
        if (id->items.size() < 5 || id->items[0]->text != "storage" || id->items[1]->kind != Kind::global)
            return push_opaque();
        const auto type = type_named(id->items[1]->text);
        Value* storage = make_text(type ? Kind::storage : Kind::odd_tensor, (type ? id->items[2] : id->items[1])->text);
        if (type) storage->type = *type;
        push(storage);
    }

    void reduce() {
        const Value *arguments = pop(), *function = pop();
        if (function->kind != Kind::global) return push_opaque();
        push(call(function->text, arguments->items));
    }

    Value* call(std::string_view name, const std::vector<Value*>& given) {
        if (name == "collections OrderedDict") {
            Value* dict = make(Kind::dict);
            if (given.empty()) return dict;
            pay(2 * given[0]->items.size() * sizeof(Value*));  // pairs, in files of Python 2
            for (const Value* pair : given[0]->items)
                if (pair->items.size() == 2)
                    dict->items.insert(dict->items.end(), pair->items.begin(), pair->items.end());
            return dict;
        }
        if (name.starts_with("torch._utils _rebuild_parameter") && !given.empty()) return given[0];
        if (name == "torch._tensor _rebuild_from_type_v2" && given.size() >= 3 && given[0]->kind == Kind::global &&
            given[0]->text != name)
            return call(given[0]->text, given[2]->items);
        const bool newer = name == "torch._utils _rebuild_tensor_v3" && given.size() >= 7;
        if (newer || name == "torch._utils _rebuild_tensor_v2" || name == "torch._utils _rebuild_tensor")
            return tensor(given, newer ? given[6] : nullptr);
        return makes_tensors(name) ? make_text(Kind::odd_tensor, name) : &opaque_;
    }

    // `given`: storage, first value, shape, strides …. `type`: the values' type if the storage has none.
    Value* tensor(const std::vector<Value*>& given, const Value* type) {
        if (given.size() < 4 || given[0]->kind != Kind::storage)
            return make_text(Kind::odd_tensor, !given.empty() && given[0]->kind == Kind::odd_tensor
                                                   ? given[0]->text
                                                   : std::string_view("a call without a storage"));
        Value* out = make(Kind::tensor);
        out->type = given[0]->type;
        if (type) {
            const auto known = type_named(type->text);
            if (!known) return make_text(Kind::odd_tensor, type->text);
            out->type = *known;
        }
        out->integer = given[1]->integer;
        pay(3 * sizeof(Value*));
        out->items = {given[0], given[2], given[3]};
        return out;
    }

    Pickle& out_;
    std::span<const std::byte> bytes_;
    size_t at_ = 0, spent_ = 0;
    Value& opaque_ = out_.values_.emplace_back();
    std::vector<Value*> stack_;
    std::vector<size_t> marks_;
    std::unordered_map<uint64_t, Value*> memo_;
    std::map<std::string_view, Value*, std::less<>> globals_;
};

Pickle::Pickle(std::span<const std::byte> bytes) { root_ = Machine(*this, bytes).run(); }

}  // namespace sdcpp::pickle
