// A whole file, read-only: mapped into memory if the system can, else read.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace sdcpp {

class MappedFile {
  public:
    // Throws Error: SDCPP_FILE_NOT_FOUND, or SDCPP_BAD_FILE for a directory, an empty or unreadable file.
    explicit MappedFile(std::filesystem::path path);
    // A file of bytes that are in memory already, under a name for messages.
    MappedFile(std::filesystem::path name, std::vector<std::byte> bytes);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return bytes_; }
    std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
    const std::filesystem::path& path() const { return path_; }

    // Gives back the memory behind `part` of the bytes; it is read from the file again when it is next looked at.
    void forget(std::span<const std::byte> part) const;

  private:
    std::filesystem::path path_;
    std::span<const std::byte> bytes_;
    std::vector<std::byte> copy_;  // if the file is not mapped
};

}  // namespace sdcpp
