// Tensor files for tests, and a component whose tensors have their canonical names in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "weights/naming.h"

// `prefix` is the component's name and a dot.
inline sdcpp::Naming plain_naming(std::string_view name, std::string_view prefix) {
    return {.name = name,
            .kind = name,
            .prefixes = {prefix},
            .slots = {},
            .config = "",
            .recognises = [](const sdcpp::FileNames&) { return 0; },
            .renamer = nullptr,
            .fused = {},
            .networks = {{prefix}},
            .metadata = {}};
}

// `header`: the JSON of the file's tensors, which lie one behind the other in `bytes`.
inline void write_safetensors(const std::filesystem::path& path, std::string header, const std::string& bytes) {
    while (header.size() % 8 != 0) header += ' ';
    const uint64_t length = header.size();
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header << bytes;
}
