// The values of a pickle of protocols 0 to 5, read by a stack machine that calls nothing: what it does not know becomes
// an opaque value. Tensors of PyTorch are known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.h"

namespace sdcpp::pickle {

struct Value {
    enum class Kind : uint8_t {
        opaque,      // anything else: numbers with a fraction, sets, bytes, objects
        integer,     //
        string,      //
        sequence,    // a list or tuple
        dict,        //
        global,      // a name; `text` is "module name"
        storage,     // tensors' values; `text` is their key
        tensor,      //
        odd_tensor,  // one that cannot be read; `text` says why
    } kind = Kind::opaque;
    DType type{};               // storage, tensor
    int64_t integer = 0;        // its value; tensor: the first of its values in the storage
    std::string_view text;      // string: its bytes
    std::vector<Value*> items;  // sequence; dict: key, value, key, value …; tensor: storage, shape, strides
};

// A pickle's values, which may hold cycles. Strings refer to the pickle's bytes.
class Pickle {
  public:
    // Throws SDCPP_BAD_FILE if the pickle is damaged or its values would take much memory.
    explicit Pickle(std::span<const std::byte> bytes);
    const Value& root() const { return *root_; }

  private:
    friend class Machine;
    std::deque<Value> values_;
    std::deque<std::string> texts_;
    Value* root_ = nullptr;
};

}  // namespace sdcpp::pickle
