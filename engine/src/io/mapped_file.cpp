#include "io/mapped_file.h"

#include <cerrno>
#include <cstring>

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

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code ec;
    const auto status = std::filesystem::status(path_, ec);
    if (status.type() == std::filesystem::file_type::not_found)
        fail(SDCPP_FILE_NOT_FOUND, "no such file: ", path_.string());
    if (!std::filesystem::is_regular_file(status)) fail(SDCPP_BAD_FILE, path_.string(), " is not a regular file");
    const auto size = std::filesystem::file_size(path_, ec);
    if (ec) fail(SDCPP_BAD_FILE, path_.string(), ": ", ec.message());
    if (size == 0) fail(SDCPP_BAD_FILE, path_.string(), " is empty; download or copy it again");
#ifdef _WIN32
    copy_.resize(size);
    std::ifstream in(path_, std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(copy_.data()), static_cast<std::streamsize>(size)))
        fail(SDCPP_BAD_FILE, path_.string(), " cannot be read");
    bytes_ = copy_;
#else
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail(SDCPP_BAD_FILE, path_.string(), " cannot be opened: ", std::strerror(errno));
    void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    const int problem = errno;
    ::close(descriptor);
    if (start == MAP_FAILED) fail(SDCPP_OUT_OF_MEMORY, path_.string(), " cannot be mapped: ", std::strerror(problem));
    bytes_ = {static_cast<const std::byte*>(start), static_cast<size_t>(size)};
#endif
}

MappedFile::MappedFile(std::filesystem::path name, std::vector<std::byte> bytes)
    : path_(std::move(name)), copy_(std::move(bytes)) {
    bytes_ = copy_;
}

MappedFile::~MappedFile() {
#ifndef _WIN32
    if (copy_.empty() && !bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
#endif
}

void MappedFile::forget([[maybe_unused]] std::span<const std::byte> part) const {
#ifndef _WIN32
    if (!copy_.empty() || part.empty()) return;
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto first = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
    if (end > first) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
#endif
}

}  // namespace sdcpp
