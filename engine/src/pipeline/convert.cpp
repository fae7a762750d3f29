#include "pipeline/convert.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "base/error.h"
#include "families/family.h"

namespace sdcpp {
namespace {

constexpr uint64_t alignment = 32;
constexpr size_t pieces_together = 4;  // for each thread, before they are written
constexpr size_t copied_together = size_t{4} << 20;

uint64_t aligned(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// The names other programs know the networks by.
std::string public_name(const std::string& canonical, const Family& family) {
    const size_t dot = canonical.find('.');
    const std::string name = canonical.substr(0, dot);
    const auto own = family.public_prefixes.find(name);
    const Component* component = find_component(name);
    if (!component) return canonical;
    return std::string(own == family.public_prefixes.end() ? component->public_prefix : own->second) +
           canonical.substr(dot + 1);
}

class Writer {
  public:
    explicit Writer(const std::filesystem::path& path) : path_(path), out_(path, std::ios::binary) { check(); }

    template <typename T>
    void number(T value) {
        bytes(&value, sizeof value);
    }
    void text(const std::string& value) {
        number<uint64_t>(value.size());
        bytes(value.data(), value.size());
    }
    void bytes(const void* data, size_t size) {
        out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
        at_ += size;
        check();
    }
    void pad() {
        static constexpr std::array<char, alignment> zeros{};
        bytes(zeros.data(), aligned(at_) - at_);
    }
    void close() {
        out_.close();
        check();
    }

  private:
    void check() {
        if (!out_) fail(SDCPP_BAD_FILE, "cannot write ", path_.string(), "; is the disk full?");
    }
    std::filesystem::path path_;
    std::ofstream out_;
    uint64_t at_ = 0;
};

// The config, with the facts that the files show by marks.
Json config_of(const ModelFiles& files) {
    Json::Object all = *files.config().object();
    Json::Object scheduler;
    if (const Json::Object* own = all["scheduler"].object()) scheduler = *own;
    if (files.find("mark.v_pred")) scheduler["prediction_type"] = Json(std::string("v_prediction"));
    if (files.find("mark.ztsnr")) scheduler["rescale_betas_zero_snr"] = Json(true);
    if (!scheduler.empty()) all["scheduler"] = Json(scheduler);
    std::erase_if(all, [](const auto& member) { return member.second.is_null(); });
    return Json(all);
}

}  // namespace

void convert_model(const ModelFiles& files, const TypeRules& types, const std::filesystem::path& target, int threads,
                   const std::function<bool(uint64_t, uint64_t)>& progress) {
    std::vector<NamedNetwork> networks = make_networks(files);
    warn_of_unused(files, networks);
    struct Entry {
        const Weight* weight;
        ggml_type type;
        uint64_t bytes;
    };
    std::vector<Entry> entries;
    std::set<std::string> seen;  // autoencoders' halves may share tensors
    uint64_t all = 0;
    for (const NamedNetwork& named : networks) {
        for (const Weight& weight : named.network->weights().all()) {
            if (!seen.insert(weight.name).second) continue;
            const ggml_type type = stored_type(weight, types);
            const int64_t row = weight.shape.back();
            const uint64_t bytes = ggml_row_size(type, row) * static_cast<uint64_t>(weight.source->count() / row);
            entries.push_back({&weight, type, bytes});
            all += bytes;
        }
    }

    const Family& family = family_of(files);
    Writer out(target);
    out.bytes("GGUF", 4);
    out.number<uint32_t>(3);
    out.number<uint64_t>(entries.size());
    const std::vector<std::pair<std::string, std::string>> pairs = {{"general.architecture", std::string(family.name)},
                                                                    {"sdcpp.config", config_of(files).dump()}};
    out.number<uint64_t>(pairs.size());
    constexpr uint32_t kind_string = 8;
    for (const auto& [key, value] : pairs) {
        out.text(key);
        out.number(kind_string);
        out.text(value);
    }
    uint64_t offset = 0;
    for (const Entry& entry : entries) {
        out.text(public_name(entry.weight->name, family));
        out.number(static_cast<uint32_t>(entry.weight->shape.size()));
        for (size_t d = entry.weight->shape.size(); d-- > 0;) out.number(static_cast<uint64_t>(entry.weight->shape[d]));
        out.number(static_cast<uint32_t>(entry.type));
        out.number(offset);
        offset += aligned(entry.bytes);
    }
    out.pad();
    uint64_t done = 0;
    std::vector<std::byte> buffer;
    for (const Entry& entry : entries) {
        const WeightSource& source = *entry.weight->source;
        const int64_t row = entry.weight->shape.back();
        if (const auto unchanged = source.bytes_as(entry.type); !unchanged.empty()) {
            for (size_t at = 0; at < unchanged.size(); at += copied_together) {
                const auto part = unchanged.subspan(at, std::min(copied_together, unchanged.size() - at));
                buffer.resize(part.size());
                source.read(part, buffer.data());
                out.bytes(buffer.data(), buffer.size());
            }
        } else {
            const std::vector<RowBlock> pieces = row_blocks_of(*entry.weight);
            const size_t together = pieces_together * static_cast<size_t>(threads);
            for (size_t first = 0; first < pieces.size(); first += together) {
                const size_t last = std::min(pieces.size(), first + together);
                const int64_t values = pieces[last - 1].first + pieces[last - 1].count - pieces[first].first;
                buffer.resize(ggml_row_size(entry.type, row) * static_cast<size_t>(values / row));
                convert_row_blocks(*entry.weight, entry.type, pieces, first, last, threads, buffer.data());
                out.bytes(buffer.data(), buffer.size());
            }
        }
        out.pad();
        source.forget(0, source.count());
        done += entry.bytes;
        if (progress && !progress(done, all)) fail(SDCPP_CANCELLED, "cancelled");
    }
    out.close();
}

}  // namespace sdcpp
