// Damaged tensor files are refused.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>

#include "io/tensor_file.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

TensorFile read(const std::string& content) {
    const auto* first = reinterpret_cast<const std::byte*>(content.data());
    return read_tensor_file(
        std::make_shared<const MappedFile>("test", std::vector<std::byte>(first, first + content.size())));
}

std::string safetensors(const std::string& header, size_t data) {
    std::string out(8, '\0');
    const uint64_t size = header.size();
    std::memcpy(out.data(), &size, 8);
    return out + header + std::string(data, '\0');
}

}  // namespace

TEST_CASE("readers trust nothing") {
    const std::string good = safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
    CHECK_MESSAGE(read(good).tensors.at(0).bytes.size() == 8, "a good file");
    for (size_t size = 1; size < good.size(); ++size)
        CHECK_MESSAGE(throws(SDCPP_BAD_FILE, [&] { (void)read(good.substr(0, size)); }),
                      "every shorter file is refused");
    CHECK_MESSAGE(
        throws(SDCPP_BAD_FILE,
               [] { (void)read(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}})", 9)); }),
        "sizes agree");
}
