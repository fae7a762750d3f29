/* Preloaded: makes memory run out, and files fail, at a chosen moment. Counts the calls for at least `least` bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static const size_t least = 1024;
static atomic_long calls, fail_from = -1, fail_until = -1, failed, reads_until_error = -1;

/* Calls number `from` to `until` - 1 fail, counted from now; -1: none. */
void faults_arm(long from, long until) {
    fail_from = -1;
    calls = 0;
    failed = 0;
    fail_until = until;
    fail_from = from;
}
/* Stops it; gives how many calls there were. */
long faults_disarm(void) {
    fail_from = -1;
    return calls;
}
long faults_failed(void) { return failed; }
/* The read after so many others reports EIO, and all after it; -1: none. */
void faults_break_reads(long after) { reads_until_error = after; }

static int fails(size_t bytes) {
    if (fail_from < 0 || bytes < least) return 0;
    const long number = calls++;
    if (number < fail_from || number >= fail_until) return 0;
    failed++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t bytes) { return fails(bytes) ? NULL : __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) {
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all)) return NULL;
    return fails(all) ? NULL : __libc_calloc(count, bytes);
}
void *realloc(void *old, size_t bytes) { return fails(bytes) ? NULL : __libc_realloc(old, bytes); }
void *memalign(size_t alignment, size_t bytes) { return fails(bytes) ? NULL : __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **out, size_t alignment, size_t bytes) {
    void *found = memalign(alignment, bytes);
    if (!found) return ENOMEM;
    *out = found;
    return 0;
}
void *mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return fails(bytes) ? MAP_FAILED : real(address, bytes, protection, flags, descriptor, offset);
}
void *mmap64(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
    return mmap(address, bytes, protection, flags, descriptor, offset);
}
ssize_t pread64(int descriptor, void *out, size_t bytes, off_t offset) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    if (reads_until_error >= 0 && reads_until_error-- == 0) {
        reads_until_error = 0;
        errno = EIO;
        return -1;
    }
    return real(descriptor, out, bytes, offset);
}
ssize_t pread(int descriptor, void *out, size_t bytes, off_t offset) { return pread64(descriptor, out, bytes, offset); }
