// Files that change under one that has them open.
#include "io/mapped_file.h"

#include <doctest/doctest.h>

#include <array>
#include <fstream>

#include "tests/throws.h"

using namespace sdcpp;

TEST_CASE("a file that was cut or grew is told, and never looked at") {
    const std::filesystem::path path = std::filesystem::temp_directory_path() / "sdcpp_mapped_file_test";
    std::ofstream(path) << std::string(100'000, 'x');
    for (const uintmax_t size : {uintmax_t{10}, uintmax_t{200'000}, uintmax_t{0}}) {
        std::ofstream(path) << std::string(100'000, 'x');
        const MappedFile file(path);
        std::vector<std::byte> out(file.bytes().size());
        file.read(file.bytes(), out.data());
        CHECK(out.back() == std::byte{'x'});
        CHECK_FALSE(file.changed());
        std::filesystem::resize_file(path, size);
        CHECK(file.changed());
        CHECK(throws(SDCPP_BAD_FILE, [&] { file.read(file.bytes(), out.data()); }));
        CHECK(throws(SDCPP_BAD_FILE, [&] { file.require_unchanged(); }));
    }
    std::ofstream(path) << "whole";
    const MappedFile file(path);
    std::filesystem::remove(path);
    std::array<std::byte, 3> out{};
    file.read(file.bytes().subspan(2), out.data());
    CHECK(out == std::array{std::byte{'o'}, std::byte{'l'}, std::byte{'e'}});
    const MappedFile memory("memory", std::vector<std::byte>(3));
    memory.read(memory.bytes(), out.data());
    CHECK(out[0] == std::byte{});
    CHECK_FALSE(memory.changed());
}
