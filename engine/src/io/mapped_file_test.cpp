// Files that change under one that has them open.
#include "io/mapped_file.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

#include "tests/throws.h"

using namespace sdcpp;

TEST_CASE("who cuts a file waits while it is held, and is seen") {
    const std::filesystem::path path = std::filesystem::temp_directory_path() / "sdcpp_held_file_test";
    std::ofstream(path) << std::string(100'000, 'x');
    const MappedFile file(path);
    std::atomic<bool> cut{false};
    std::optional<MappedFile::Hold> hold(std::in_place, file);
    CHECK_FALSE(file.changed());
    std::thread other([&] {
        std::filesystem::resize_file(path, 10);
        cut = true;
    });
    for (int i = 0; i < 500 && !file.changed(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(file.changed());
    if (!cut) CHECK(file.bytes().back() == std::byte{'x'});  // else the system does not let files be held
    hold.reset();
    other.join();
    CHECK(file.changed());
}

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
