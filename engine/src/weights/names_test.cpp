// How tensors of files get their canonical names, with components made up for the purpose.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/throws.h"
#include "weights/names.h"

using namespace sdcpp;

namespace {

const Naming body = {.name = "body",
                     .kind = "diffusion_model",
                     .prefixes = {"model."},
                     .config = "body",
                     .recognises = [](const FileNames& file) { return file.has("in.weight") + file.has("arm.weight"); },
                     .renamer = [](const FileNames&) -> Renamer {
                         return [](const std::string& name) { return name == "drop" ? "" : name; };
                     },
                     .fused = {{".qkv.weight", {".q.weight", ".k.weight", ".v.weight"}},
                               {".all.weight", {".q.weight", ".rest.weight"}, {1, 4}}},
                     .networks = {{"body."}}};
const Naming other = {.name = "other",
                      .kind = "diffusion_model",
                      .prefixes = {"model."},
                      .config = "other",
                      .recognises = [](const FileNames& file) { return file.has("wing.weight") ? 3 : 0; },
                      .renamer = nullptr,
                      .networks = {{"other."}}};
const Naming text = {.name = "text",
                     .kind = "text_encoder",
                     .prefixes = {"cond.", "cond.long."},
                     .config = "text",
                     .recognises = [](const FileNames& file) { return file.slot() == "text_encoder" ? 1 : 0; },
                     .renamer = nullptr,
                     .networks = {{"text."}}};
const Namings all = {&body, &other, &text};

TensorFile file_of(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors) {
    static std::vector<float> data(4096);
    TensorFile out;
    for (const auto& [name, shape] : tensors) {
        TensorInfo tensor{name, from_ggml(GGML_TYPE_F32), shape, {}};
        tensor.bytes = {reinterpret_cast<const std::byte*>(data.data()), static_cast<size_t>(tensor.count()) * 4};
        out.tensors.push_back(std::move(tensor));
    }
    return out;
}

std::vector<std::string> names(const TensorFile& file, const FileRole& role = {}) {
    std::vector<std::string> out;
    for (const NamedTensor& tensor : canonical_tensors(file, role, all)) out.push_back(tensor.name);
    return out;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a file is the component's that most facts speak for, not the first one's") {
    CHECK(names(file_of({{"in.weight", {2}}, {"drop", {2}}})) == Names{"body.in.weight"});
    CHECK(names(file_of({{"in.weight", {2}}, {"wing.weight", {2}}})) == Names{"other.in.weight", "other.wing.weight"});
    CHECK(names(file_of({{"x", {2}}}), {"text_encoder", "text_encoder"}) == Names{"text.x"});
}

TEST_CASE("in a file of several components, prefixes tell, the longest first, and lone names are marks") {
    const TensorFile file =
        file_of({{"model.in.weight", {2}}, {"cond.a", {2}}, {"cond.long.b", {2}}, {"v_pred", {1}}, {"x.y", {1}}});
    CHECK(names(file) == Names{"body.in.weight", "text.a", "text.b", "mark.v_pred"});
    CHECK(names(file_of({{"model.in.weight", {2}}, {"model.wing.weight", {2}}})) ==
          Names{"other.in.weight", "other.wing.weight"});
    CHECK(names(file_of({{"model.strange", {2}}})) == Names{"unknown.strange"});
}

TEST_CASE("a file given as one kind is looked for under the prefixes, too") {
    const TensorFile file = file_of({{"model.in.weight", {2}}, {"cond.a", {2}}});
    CHECK(names(file, {"diffusion_model", ""}) == Names{"body.in.weight"});
    CHECK(names(file_of({{"strange", {2}}}), {"diffusion_model", ""}) == Names{"unknown.strange"});
    CHECK(names(file_of({{"strange", {2}}}), {"body", ""}) == Names{"body.strange"});
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)names(file, {"leg", ""}); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)names(file_of({{"in.weight", {2}}}), {"text", ""}); }));
}

TEST_CASE("fused tensors are cut at any shares of their rows, without a copy") {
    const TensorFile file =
        file_of({{"in.weight", {2}}, {"a.qkv.weight", {6, 3}}, {"b.all.weight", {10, 3}}, {"c.qkv.weight", {7, 3}}});
    const auto found = canonical_tensors(file, {}, all);
    const auto named = [&](const std::string& name) {
        return std::find_if(found.begin(), found.end(), [&](const NamedTensor& one) { return one.name == name; })
            ->tensor;
    };
    const std::byte* first = file.tensors[1].bytes.data();
    CHECK(named("body.a.k.weight").shape == std::vector<int64_t>{2, 3});
    CHECK(named("body.a.k.weight").bytes.data() == first + 2 * 3 * 4);
    CHECK(named("body.b.q.weight").shape == std::vector<int64_t>{2, 3});
    CHECK(named("body.b.rest.weight").shape == std::vector<int64_t>{8, 3});
    CHECK(named("body.b.rest.weight").bytes.data() == file.tensors[2].bytes.data() + 2 * 3 * 4);
    CHECK(named("body.c.qkv.weight").shape == std::vector<int64_t>{7, 3});  // no whole thirds
}

TEST_CASE("numbers are taken off the front of names") {
    std::string_view name = "blocks.12.rest";
    CHECK(take_number(name, "blocks.", ".") == 12);
    CHECK(name == "rest");
    for (const char* bad : {"blocks.x.rest", "blocks.-1.rest", "blocks.5000.rest", "blocks.5", "other.5.rest"}) {
        std::string_view text = bad;
        CHECK_FALSE(take_number(text, "blocks.", ".").has_value());
        CHECK(text == bad);
    }
}
