// Loops that the compiler makes vector code of, for the processor that the program meets.
#pragma once

// One copy per level of x86-64, chosen when the library is loaded. (Sanitizers start later than that.)
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SDCPP_VECTOR_CODE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SDCPP_VECTOR_CODE
#endif

// Before a loop whose turns do not write what others read.
#if defined(__GNUC__) && !defined(__clang__)
#define SDCPP_INDEPENDENT _Pragma("GCC ivdep")
#else
#define SDCPP_INDEPENDENT
#endif
