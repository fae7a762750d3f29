// Every option of the engine is one row of one table. The row holds the option's checks, the source of its default, and
// its names on the command line and in pictures' metadata. It also holds the function that stores its value.
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
#include "pipeline/preview.h"
#include "pipeline/upscale.h"
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

// Who decides if an option is left out.
enum class DefaultFrom {
    engine,  // the engine decides as it runs
    fixed,   // the row's value
    model,   // the model's value, else the row's
    random   // a number drawn at random
};

// The use of a set of options. Names are unique within a set.
enum class OptionSet {
    model,
    generate,
    plan,
    face,  // for faces of the engine, which prepare masks and the like: the engine takes none of these
};

struct OptionArray {
    std::vector<int64_t> shape;
    std::vector<float> data;
};

// An integer past 2^63 is a uint64_t.
using OptionValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<double>, OptionArray>;

// The struct that holds the options of OptionSet::generate.
struct GenerateOptions {
    SampleOptions sample;
    DecodeOptions decode;
    PreviewOptions preview;
    UpscaleOptions upscale;
    int clip_skip = 1;
    std::vector<int64_t> noise_shape, init_latent_shape, mask_shape;  // empty if there is none
};

// One row. `store` writes a checked value into the set's struct: ModelOptions, GenerateOptions or PlanOptions.
struct Option {
    OptionSet set;
    const char* name;
    OptionKind kind;
    double least = 0, most = 0;  // for numbers and integers, and for each of `numbers`
    const std::vector<std::string>& (*choices)() = nullptr;
    DefaultFrom from = DefaultFrom::engine;
    const char* otherwise = "";                               // the default as text, for `fixed` and `model`
    const char* group = "";                                   // a heading of the command line; "": no user's option
    const char* flags = "";                                   // on the command line, separated by spaces; "": none
    const char* unit = "";                                    // the value's name in the command line's help
    const char* written = "";                                 // its key in a picture's metadata; "": not written
    const char* help = "";                                    // one sentence
    const std::vector<std::string>& (*samplers)() = nullptr;  // it has no effect with others; null: it has with all
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

    // Each throws SDCPP_INVALID_ARGUMENT for an unknown name, with near ones, and for a value of another kind or out of
    // bounds. Text is read as on the command line.
    void set_number(const std::string& name, double value);
    void set_text(const std::string& name, const std::string& value);
    void set_array(const std::string& name, OptionArray value);

    bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
    OptionSet set() const { return set_; }

    // Stores the values, and fixed defaults of options that are absent. `model_default` gives the model's own value of
    // an option as text, "" if it has none; null: no model is asked.
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

// The value of `option` if it is left out: the model's own, else the row's; "" if the engine decides.
std::string default_text(const Option& option, const std::function<std::string(const std::string&)>& model_default);
// The value of an option from its text. Throws SDCPP_INVALID_ARGUMENT.
OptionValue parse_option(const Option& option, const std::string& text);

}  // namespace sdcpp
