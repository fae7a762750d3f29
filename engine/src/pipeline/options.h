// Every option of the engine is one row of one table. The row says how the option is checked, where its default comes
// from, how command line and pictures' metadata name it, and where its value is stored.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/json.h"
#include "pipeline/autoencode.h"
#include "pipeline/generate.h"
#include "planning/planner.h"

namespace sdcpp {

enum class OptionKind {
    number,
    integer,
    text,
    choice,   // text that is one of `choices`
    toggle,   // yes or no
    budget,   // GiB; faces take text such as "CUDA0=8,4" for it, too
    numbers,  // a list of numbers
    array     // floats with a shape
};

// What an option left out becomes.
enum class DefaultFrom {
    engine,  // the engine decides as it runs
    fixed,   // the row's value
    model,   // what the model says, else the row's value
    random   // a number drawn at random
};

// What a set of options is for. Names are unique within a set.
enum class OptionSet { model, generate, plan };

struct OptionArray {
    std::vector<int64_t> shape;
    std::vector<float> data;
};

// An integer past 2^63 is a uint64_t.
using OptionValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<double>, OptionArray>;

// What the options of OptionSet::generate are stored in.
struct GenerateOptions {
    SampleOptions sample;
    DecodeOptions decode;
    int clip_skip = 1;
    std::vector<int64_t> noise_shape;  // of SampleOptions::noise; empty without one
};

// One row. `store` writes a checked value into the set's struct: ModelOptions, GenerateOptions or PlanOptions.
struct Option {
    OptionSet set;
    const char* name;
    OptionKind kind;
    double least = 0, most = 0;  // of numbers and integers; of `numbers`: of each
    const std::vector<std::string>& (*choices)() = nullptr;
    DefaultFrom from = DefaultFrom::engine;
    const char* otherwise = "";  // the default as text, for `fixed` and `model`
    const char* group = "";      // a heading of the command line; "": no user's option
    const char* flags = "";      // on the command line, separated by spaces; "": none
    const char* unit = "";       // what the command line's help calls the value
    const char* written = "";    // its key in a picture's metadata; "": not written
    const char* help = "";       // one sentence
    void (*store)(void* target, const OptionValue& value) = nullptr;
};

const std::vector<Option>& option_table();
// The table, as sdcpp_option_table() describes it.
Json option_table_json();

// Checked values by name. An option that was not set is absent.
class Options {
  public:
    // "model", "generate" or "plan".
    explicit Options(std::string_view set);
    explicit Options(OptionSet set) : set_(set) {}

    // Each throws SDCPP_INVALID_ARGUMENT for an unknown name, which comes with near ones, and for a value that is not
    // of the option's kind or out of its bounds. Text is read as the command line would.
    void set_number(const std::string& name, double value);
    void set_text(const std::string& name, const std::string& value);
    void set_array(const std::string& name, OptionArray value);

    bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
    OptionSet set() const { return set_; }

    // Stores the values, and fixed defaults of options that are absent. `model_default` gives the model's own value of
    // an option as text, "" if it has none; null: no model is asked. Arrays are referred to, not copied.
    template <typename Target>
    void store(Target& target, const std::function<std::string(const std::string&)>& model_default = nullptr) const {
        constexpr OptionSet wanted = std::is_same_v<Target, ModelOptions>      ? OptionSet::model
                                     : std::is_same_v<Target, GenerateOptions> ? OptionSet::generate
                                                                               : OptionSet::plan;
        static_assert(wanted != OptionSet::plan || std::is_same_v<Target, PlanOptions>);
        store_into(wanted, &target, model_default);
    }

  private:
    const Option& row(const std::string& name) const;
    void store_into(OptionSet wanted, void* target, const std::function<std::string(const std::string&)>& own) const;

    OptionSet set_;
    std::map<std::string, OptionValue, std::less<>> values_;
};

// What `option` is if it is left out, "" if the engine decides: the model's own value, else the row's.
std::string default_text(const Option& option, const std::function<std::string(const std::string&)>& model_default);
// The value of an option as its text says it. Throws SDCPP_INVALID_ARGUMENT.
OptionValue parse_option(const Option& option, const std::string& text);

}  // namespace sdcpp
