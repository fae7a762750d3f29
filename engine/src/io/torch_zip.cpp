// PyTorch's zip checkpoints. The pickle inside is read by a small stack machine that knows the opcodes a state dict
// needs and calls nothing: the only constructors it understands are the tensor rebuilders and OrderedDict.
#include <cstring>
#include <deque>

#include "base/error.h"
#include "io/tensor_file.h"

namespace sdcpp {
namespace {

using Bytes = std::span<const std::byte>;

template <typename T>
T load(Bytes bytes, size_t at) {
    if (at > bytes.size() || bytes.size() - at < sizeof(T))
        fail(SDCPP_BAD_FILE, "a record runs past the end; the file is truncated");
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

Bytes part(Bytes bytes, uint64_t at, uint64_t size) {
    if (at > bytes.size() || size > bytes.size() - at)
        fail(SDCPP_BAD_FILE, "a record runs past the end; the file is truncated");
    return bytes.subspan(at, size);
}

std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// The entries of a zip's central directory, all of which must be stored without compression.
std::map<std::string, Bytes> zip_entries(Bytes file) {
    constexpr uint32_t end_mark = 0x06054b50, end64_mark = 0x06064b50, locator_mark = 0x07064b50,
                       entry_mark = 0x02014b50;
    if (file.size() < 22) fail(SDCPP_BAD_FILE, "too short for a zip");
    size_t end = file.size() - 22;
    const size_t lowest = end > 65535 ? end - 65535 : 0;
    while (load<uint32_t>(file, end) != end_mark) {
        if (end == lowest) fail(SDCPP_BAD_FILE, "no end of the zip's directory found; the file is truncated");
        --end;
    }
    uint64_t count = load<uint16_t>(file, end + 10), at = load<uint32_t>(file, end + 16);
    if (end >= 20 && load<uint32_t>(file, end - 20) == locator_mark) {
        const auto end64 = load<uint64_t>(file, end - 12);
        if (load<uint32_t>(part(file, end64, 56), 0) != end64_mark)
            fail(SDCPP_BAD_FILE, "the zip64 directory is damaged");
        count = load<uint64_t>(part(file, end64, 56), 32);
        at = load<uint64_t>(part(file, end64, 56), 48);
    }
    std::map<std::string, Bytes> entries;
    for (uint64_t i = 0; i < count; ++i) {
        const Bytes head = part(file, at, 46);
        if (load<uint32_t>(head, 0) != entry_mark) fail(SDCPP_BAD_FILE, "the zip's directory is damaged");
        const auto method = load<uint16_t>(head, 10);
        uint64_t size = load<uint32_t>(head, 24), packed = load<uint32_t>(head, 20), offset = load<uint32_t>(head, 42);
        const auto name_size = load<uint16_t>(head, 28), extra_size = load<uint16_t>(head, 30),
                   comment_size = load<uint16_t>(head, 32);
        const std::string name = text(part(file, at + 46, name_size));
        const Bytes extra = part(file, at + 46 + name_size, extra_size);
        for (size_t e = 0; e + 4 <= extra.size();) {
            const auto id = load<uint16_t>(extra, e), length = load<uint16_t>(extra, e + 2);
            size_t field = e + 4;
            if (id == 1) {
                for (uint64_t* wide : {&size, &packed, &offset}) {
                    if (*wide != 0xFFFFFFFF) continue;
                    *wide = load<uint64_t>(extra, field);
                    field += 8;
                }
            }
            e += 4 + length;
        }
        if (method != 0 || size != packed)
            fail(SDCPP_BAD_FILE, "entry ", name, " is compressed; save the checkpoint again with PyTorch");
        const Bytes local = part(file, offset, 30);
        const uint64_t start = offset + 30 + load<uint16_t>(local, 26) + load<uint16_t>(local, 28);
        entries[name] = part(file, start, size);
        at += 46ull + name_size + extra_size + comment_size;
    }
    return entries;
}

struct Value;
using ValuePtr = Value*;  // owned by the Unpickler that made it: pickles may hold cycles

// A value of a pickle. `items` serves lists, tuples, dicts (key, value, key, value …), and a tensor's parts.
struct Value {
    enum class Kind {
        none,
        boolean,
        integer,
        real,
        string,
        sequence,
        dict,
        global,
        storage,
        tensor,
        object
    } kind = Kind::none;
    int64_t integer = 0;
    std::string text;             // string; global: "module name"; storage: its key
    std::vector<ValuePtr> items;  // see above
    DType type{};                 // storage, tensor
    std::vector<int64_t> shape, stride;
};

DType storage_type(const std::string& global) {
    static const std::map<std::string, DType> types = {{"torch FloatStorage", from_ggml(GGML_TYPE_F32)},
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
                                                       {"torch Float8_e5m2Storage", DType::f8_e5m2}};
    const auto found = types.find(global);
    if (found == types.end()) fail(SDCPP_BAD_FILE, "tensors of class ", global, " cannot be read");
    return found->second;
}

class Unpickler {
  public:
    explicit Unpickler(Bytes bytes) : bytes_(bytes) {}

    ValuePtr run() {
        while (true) {
            const auto op = static_cast<unsigned char>(take<char>());
            if (op == '.') return pop();
            step(op);
        }
    }

  private:
    ValuePtr make(Value::Kind kind) {
        values_.emplace_back().kind = kind;
        return &values_.back();
    }
    template <typename T>
    T take() {
        const T value = load<T>(bytes_, at_);
        at_ += sizeof(T);
        return value;
    }
    std::string take_text(uint64_t size) {
        const Bytes found = part(bytes_, at_, size);
        at_ += size;
        return text(found);
    }
    std::string take_line() {
        std::string line;
        for (char c = 0; (c = take<char>()) != '\n';) line.push_back(c);
        return line;
    }
    void push(ValuePtr value) {
        if (stack_.size() > (1u << 24)) fail(SDCPP_BAD_FILE, "the pickle is too deep");
        stack_.push_back(value);
    }
    ValuePtr pop() {
        if (stack_.empty()) fail(SDCPP_BAD_FILE, "the pickle is damaged: nothing on the stack");
        const ValuePtr value = stack_.back();
        stack_.pop_back();
        return value;
    }
    Value& top() {
        if (stack_.empty()) fail(SDCPP_BAD_FILE, "the pickle is damaged: nothing on the stack");
        return *stack_.back();
    }
    std::vector<ValuePtr> pop_to_mark() {
        if (marks_.empty() || marks_.back() > stack_.size()) fail(SDCPP_BAD_FILE, "the pickle is damaged: no mark");
        std::vector<ValuePtr> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return items;
    }
    void push_sequence(std::vector<ValuePtr> items) {
        auto value = make(Value::Kind::sequence);
        value->items = std::move(items);
        push(value);
    }
    void push_last(size_t count) {
        std::vector<ValuePtr> items(count);
        for (size_t i = count; i-- > 0;) items[i] = pop();
        push_sequence(std::move(items));
    }
    void push_integer(int64_t number, Value::Kind kind = Value::Kind::integer) {
        auto value = make(kind);
        value->integer = number;
        push(value);
    }
    void push_string(std::string content) {
        auto value = make(Value::Kind::string);
        value->text = std::move(content);
        push(value);
    }
    void push_global(const std::string& module, const std::string& name) {
        auto value = make(Value::Kind::global);
        value->text = module + " " + name;
        push(value);
    }
    void get(uint32_t slot) {
        const auto found = memo_.find(slot);
        if (found == memo_.end()) fail(SDCPP_BAD_FILE, "the pickle is damaged: empty memo slot");
        push(found->second);
    }
    void put(uint32_t slot) {
        if (stack_.empty()) fail(SDCPP_BAD_FILE, "the pickle is damaged: nothing on the stack");
        memo_[slot] = stack_.back();
    }
    void extend(std::vector<ValuePtr> items, Value::Kind kind) {
        Value& target = top();
        if (target.kind != kind && target.kind != Value::Kind::object)
            fail(SDCPP_BAD_FILE, "the pickle is damaged: wrong container");
        target.items.insert(target.items.end(), items.begin(), items.end());
    }

    void step(unsigned char op) {
        switch (op) {
            case 0x80:  // PROTO
                take<uint8_t>();
                return;
            case 0x95:  // FRAME
                take<uint64_t>();
                return;
            case '(':
                marks_.push_back(stack_.size());
                return;
            case 'N':
                return push(make(Value::Kind::none));
            case 0x88:
            case 0x89:
                return push_integer(op == 0x88, Value::Kind::boolean);
            case 'J':
                return push_integer(take<int32_t>());
            case 'K':
                return push_integer(take<uint8_t>());
            case 'M':
                return push_integer(take<uint16_t>());
            case 0x8a:
                return push_long(take<uint8_t>());
            case 'G':
                take<uint64_t>();
                return push(make(Value::Kind::real));
            case 'X':
                return push_string(take_text(take<uint32_t>()));
            case 0x8c:
                return push_string(take_text(take<uint8_t>()));
            case 'c': {
                const std::string module = take_line();
                return push_global(module, take_line());
            }
            case 0x93: {
                const ValuePtr name = pop(), module = pop();
                return push_global(module->text, name->text);
            }
            case 'q':
                return put(take<uint8_t>());
            case 'r':
                return put(take<uint32_t>());
            case 0x94:
                return put(static_cast<uint32_t>(memo_.size()));
            case 'h':
                return get(take<uint8_t>());
            case 'j':
                return get(take<uint32_t>());
            case '}':
                return push(make(Value::Kind::dict));
            case ']':
            case ')':
                return push_sequence({});
            case 't':
                return push_sequence(pop_to_mark());
            case 0x85:
            case 0x86:
            case 0x87:
                return push_last(op - 0x84u);
            case 'a':
            case 'e': {
                std::vector<ValuePtr> items = op == 'a' ? std::vector{pop()} : pop_to_mark();
                return extend(std::move(items), Value::Kind::sequence);
            }
            case 's': {
                const ValuePtr value = pop(), key = pop();
                return extend({key, value}, Value::Kind::dict);
            }
            case 'u':
                return extend(pop_to_mark(), Value::Kind::dict);
            case 'Q':
                return persistent();
            case 'R':
                return reduce();
            case 'b':  // BUILD: attributes of an object (an OrderedDict's), which a state dict does not need
                pop();
                top();
                return;
            default:
                fail(SDCPP_BAD_FILE, "the pickle uses opcode ", static_cast<int>(op), ", which no state dict needs");
        }
    }

    void push_long(uint8_t size) {
        if (size > 8) fail(SDCPP_BAD_FILE, "an integer is too long");
        uint64_t number = 0;
        for (unsigned i = 0; i < size; ++i) number |= static_cast<uint64_t>(take<uint8_t>()) << 8 * i;
        if (size > 0 && size < 8 && (number >> (8 * size - 1) & 1)) number |= ~0ull << 8 * size;
        push_integer(static_cast<int64_t>(number));
    }

    // ('storage', class, key, location, count)
    void persistent() {
        const ValuePtr id = pop();
        if (id->items.size() < 5 || id->items[0]->text != "storage" || id->items[1]->kind != Value::Kind::global)
            fail(SDCPP_BAD_FILE, "the pickle refers to something that is no tensor storage");
        auto storage = make(Value::Kind::storage);
        storage->type = storage_type(id->items[1]->text);
        storage->text = id->items[2]->text;
        push(storage);
    }

    void reduce() {
        const ValuePtr arguments = pop(), function = pop();
        const std::string& name = function->text;
        if (function->kind == Value::Kind::global && name == "collections OrderedDict")
            return push(make(Value::Kind::dict));
        if (function->kind == Value::Kind::global && name == "torch._utils _rebuild_parameter" &&
            !arguments->items.empty())
            return push(arguments->items[0]);
        if (function->kind != Value::Kind::global || name != "torch._utils _rebuild_tensor_v2")
            fail(SDCPP_BAD_FILE, "the pickle calls ", name,
                 ", which is not run; save the weights alone as safetensors");
        const auto& items = arguments->items;
        if (items.size() < 4 || items[0]->kind != Value::Kind::storage)
            fail(SDCPP_BAD_FILE, "a tensor lacks its storage");
        auto tensor = make(Value::Kind::tensor);
        tensor->type = items[0]->type;
        tensor->text = items[0]->text;
        tensor->integer = items[1]->integer;
        for (const ValuePtr& side : items[2]->items) tensor->shape.push_back(side->integer);
        for (const ValuePtr& step : items[3]->items) tensor->stride.push_back(step->integer);
        push(tensor);
    }

    Bytes bytes_;
    size_t at_ = 0;
    std::deque<Value> values_;
    std::vector<ValuePtr> stack_;
    std::vector<size_t> marks_;
    std::map<uint32_t, ValuePtr> memo_;
};

void add_tensor(TensorFile& out, const std::map<std::string, Bytes>& entries, const std::string& folder,
                const std::string& name, const Value& value) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.type = value.type;
    tensor.shape = value.shape;
    size_t size = 0;
    if (checked_count(name, tensor.shape, tensor.type, size) == 0) return;
    int64_t expected = 1;
    for (size_t d = tensor.shape.size(); d-- > 0; expected *= tensor.shape[d])
        if (d >= value.stride.size() || (tensor.shape[d] != 1 && value.stride[d] != expected))
            fail(SDCPP_BAD_FILE, "tensor ", name, " is not contiguous; save the checkpoint again after .contiguous()");
    const auto storage = entries.find(folder + "data/" + value.text);
    if (storage == entries.end()) fail(SDCPP_BAD_FILE, "the data of tensor ", name, " is missing");
    uint64_t offset = 0;
    if (value.integer < 0 ||
        __builtin_mul_overflow(static_cast<uint64_t>(value.integer), dtype_block_bytes(tensor.type), &offset))
        fail(SDCPP_BAD_FILE, "tensor ", name, " has a bad offset");
    tensor.bytes = part(storage->second, offset, size);
    out.tensors.push_back(std::move(tensor));
}

}  // namespace

TensorFile read_torch_zip(std::shared_ptr<const MappedFile> file) {
    const std::map<std::string, Bytes> entries = zip_entries(file->bytes());
    std::string folder;
    const Bytes* pickle = nullptr;
    for (const auto& [name, bytes] : entries) {
        if (!name.ends_with("data.pkl")) continue;
        folder = name.substr(0, name.size() - std::strlen("data.pkl"));
        pickle = &bytes;
    }
    if (!pickle) fail(SDCPP_BAD_FILE, "a zip without data.pkl is no PyTorch checkpoint");
    if (const auto order = entries.find(folder + "byteorder");
        order != entries.end() && text(order->second) != "little")
        fail(SDCPP_BAD_FILE, "big-endian checkpoints cannot be read");
    Unpickler unpickler(*pickle);
    ValuePtr root = unpickler.run();
    const auto member = [](const Value& dict, std::string_view key) -> ValuePtr {
        for (size_t i = 0; i + 1 < dict.items.size(); i += 2)
            if (dict.items[i]->text == key && dict.items[i + 1]->kind == Value::Kind::dict) return dict.items[i + 1];
        return nullptr;
    };
    if (const ValuePtr inner = member(*root, "state_dict")) root = inner;
    if (root->kind != Value::Kind::dict) fail(SDCPP_BAD_FILE, "the checkpoint holds no dictionary of tensors");

    TensorFile out;
    out.format = "torch";
    for (size_t i = 0; i + 1 < root->items.size(); i += 2)
        if (root->items[i + 1]->kind == Value::Kind::tensor)
            add_tensor(out, entries, folder, root->items[i]->text, *root->items[i + 1]);
    if (out.tensors.empty()) fail(SDCPP_BAD_FILE, "the checkpoint holds no tensors");
    out.files.push_back(std::move(file));
    check_names(out);
    return out;
}

}  // namespace sdcpp
