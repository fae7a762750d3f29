#include "io/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/error.h"

#ifdef _WIN32
#include <fstream>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace sdcpp {
#ifndef _WIN32
namespace {

std::pair<int64_t, int64_t> time_of_change(const struct stat& facts) {
#ifdef __APPLE__
    return {facts.st_mtimespec.tv_sec, facts.st_mtimespec.tv_nsec};
#else
    return {facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec};
#endif
}

}  // namespace
#endif

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code ec;
    const auto status = std::filesystem::status(path_, ec);
    if (status.type() == std::filesystem::file_type::not_found)
        fail(SDCPP_FILE_NOT_FOUND, "no such file: ", path_.string());
    if (ec) fail(SDCPP_BAD_FILE, path_.string(), ": ", ec.message());
    if (!std::filesystem::is_regular_file(status)) fail(SDCPP_BAD_FILE, path_.string(), " is not a regular file");
    const auto require_content = [this](uintmax_t size) {
        if (size == 0) fail(SDCPP_BAD_FILE, path_.string(), " is empty; download or copy it again");
    };
#ifdef _WIN32
    const auto size = std::filesystem::file_size(path_, ec);
    if (ec) fail(SDCPP_BAD_FILE, path_.string(), ": ", ec.message());
    require_content(size);
    copy_.resize(size);
    std::ifstream in(path_, std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(copy_.data()), static_cast<std::streamsize>(size)))
        fail(SDCPP_BAD_FILE, path_.string(), " cannot be read");
    bytes_ = copy_;
#else
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail(SDCPP_BAD_FILE, path_.string(), " cannot be opened: ", std::strerror(errno));
    try {
        struct stat facts{};
        if (::fstat(descriptor_, &facts) != 0) fail(SDCPP_BAD_FILE, path_.string(), ": ", std::strerror(errno));
        require_content(static_cast<uintmax_t>(facts.st_size));
        std::tie(changed_seconds_, changed_nanoseconds_) = time_of_change(facts);
        const auto size = static_cast<size_t>(facts.st_size);
        void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
        if (start == MAP_FAILED)
            fail(errno == ENOMEM || errno == EAGAIN ? SDCPP_OUT_OF_MEMORY : SDCPP_BAD_FILE, path_.string(),
                 " cannot be mapped: ", std::strerror(errno));
        bytes_ = {static_cast<const std::byte*>(start), size};
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
#endif
}

MappedFile::MappedFile(std::filesystem::path name, std::vector<std::byte> bytes)
    : path_(std::move(name)), copy_(std::move(bytes)) {
    bytes_ = copy_;
}

MappedFile::~MappedFile() {
#ifndef _WIN32
    if (descriptor_ < 0) return;
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    ::close(descriptor_);
#endif
}

void MappedFile::read(std::span<const std::byte> part, std::byte* out) const {
    if (descriptor_ < 0) {
        if (!part.empty()) std::memcpy(out, part.data(), part.size());
        return;
    }
#ifndef _WIN32
    constexpr size_t most = size_t{1} << 30;  // Linux takes no more than 2 GiB in one call
    auto at = static_cast<size_t>(part.data() - bytes_.data());
    for (size_t left = part.size(); left > 0;) {
        const ssize_t got = ::pread(descriptor_, out, std::min(left, most), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(SDCPP_BAD_FILE, path_.string(), " cannot be read: ", std::strerror(errno));
        if (got == 0) break;  // its end, which require_unchanged() tells
        left -= static_cast<size_t>(got);
        at += static_cast<size_t>(got);
        out += got;
    }
    require_unchanged();
#endif
}

bool MappedFile::changed() const noexcept {
#ifndef _WIN32
    if (descriptor_ < 0) return false;
#ifdef F_SETLEASE
    if (held_ && ::fcntl(descriptor_, F_GETLEASE) != F_RDLCK) return true;  // somebody waits to write
#endif
    struct stat facts{};
    return ::fstat(descriptor_, &facts) != 0 || static_cast<size_t>(facts.st_size) != bytes_.size() ||
           time_of_change(facts) != std::pair{changed_seconds_, changed_nanoseconds_};
#else
    return false;
#endif
}

void MappedFile::require_unchanged() const {
    if (changed())
        fail(SDCPP_BAD_FILE, path_.string(),
             " was changed while it was in use; open it again when it is complete (a program that writes the new file "
             "under another name and renames it does no harm)");
}

// The system tells of a waiting writer by a signal, for which one is chosen that does nothing by default: it is asked.
MappedFile::Hold::Hold(const MappedFile& file) noexcept : file_(&file) {
#ifdef F_SETLEASE
    if (file.descriptor_ < 0 || ::fcntl(file.descriptor_, F_SETSIG, SIGURG) != 0) return;
    file.held_ = ::fcntl(file.descriptor_, F_SETLEASE, F_RDLCK) == 0;
#endif
}

MappedFile::Hold::~Hold() {
#ifdef F_SETLEASE
    if (file_ && file_->held_.exchange(false)) ::fcntl(file_->descriptor_, F_SETLEASE, F_UNLCK);
#endif
}

void MappedFile::forget([[maybe_unused]] std::span<const std::byte> part) const {
#ifndef _WIN32
    if (descriptor_ < 0 || part.empty()) return;
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto first = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
    if (end > first) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
#endif
}

}  // namespace sdcpp
