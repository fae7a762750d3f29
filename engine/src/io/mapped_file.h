// A whole file, read-only: mapped into memory if the system can, else read. If the file has been cut meanwhile, looking
// at a mapping ends the process (SIGBUS). So reading after opening goes through read() as far as possible.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>
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

    // Copies `part` of bytes() by calls that report what goes wrong. Called from several threads. Throws SDCPP_BAD_FILE
    // if the file was changed since it was opened, or cannot be read.
    void read(std::span<const std::byte> part, std::byte* out) const;
    // Whether the file has another size or time of change than it had when it was opened. A file that was replaced by
    // another of its name has not changed: this one is still there for those who have it open.
    bool changed() const noexcept;
    // Throws SDCPP_BAD_FILE if it has.
    void require_unchanged() const;

    // While one lives, programs that open the file for writing, or cut it, wait, if the system lets this process ask
    // for that (a lease: on Linux, for files of one's own on local disks). changed() is true as soon as one does, so
    // that who looks at the mapping can stop in time; it may not live for long then. One at a time.
    class Hold {
      public:
        explicit Hold(const MappedFile& file) noexcept;
        ~Hold();
        Hold(Hold&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
        Hold& operator=(Hold&&) = delete;

      private:
        const MappedFile* file_;
    };

    // Gives back the memory behind `part` of the bytes; it is read from the file again when it is next looked at.
    void forget(std::span<const std::byte> part) const;

  private:
    std::filesystem::path path_;
    std::span<const std::byte> bytes_;
    std::vector<std::byte> copy_;  // if the file is not mapped
    int descriptor_ = -1;
    mutable std::atomic<bool> held_{false};
    int64_t changed_seconds_ = 0, changed_nanoseconds_ = 0;
};

}  // namespace sdcpp
