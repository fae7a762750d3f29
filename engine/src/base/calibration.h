// Numbers that were measured or chosen, of all rooms. Each comment gives the meaning and the origin.
// "The Xeon" is a virtual machine with 2 cores of an Intel Xeon that has AVX-512 and AMX. The GPUs are described in
// docs/gpu.md.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sdcpp::calibration {

constexpr uint64_t mib = uint64_t{1} << 20, gib = uint64_t{1} << 30;

// Memory ------------------------------------------------------------------------------------------------------------

// Free memory that an automatic budget leaves alone, for other programs and for what drivers take. Chosen. On small
// devices an eighth of the free memory takes its place.
constexpr uint64_t margin_bytes = 512 * mib;
constexpr uint64_t margin_share = 8;

// The part of a process' budget that goes to graphs and to the pages of the file that are being read. Fitted to the
// resident memory of whole runs on the CPU, benchmarks/streaming.py --memory: 2026-11-25, a virtual machine with 2
// cores whose processor was not noted, an AMD EPYC or the Xeon.
constexpr uint64_t bookkeeping_bytes = 40 * mib;
constexpr uint64_t bookkeeping_share = 24;
// The drift between runs of what a process holds beside its networks; it is added to the least budget that an error
// names. Chosen.
constexpr uint64_t process_drift_bytes = 8 * mib;

// Memory of a GPU's backend that is not the networks': recorded graphs, libraries, the driver's rounding. Measured on
// an H100, 2026-11-27: up to 187 MiB for 114 segments. It holds until it is measured, after the first and the
// fifth run; a small budget counts an eighth.
constexpr uint64_t backend_bytes = 224 * mib;
constexpr uint64_t backend_share = 8;
// Memory that a backend may always need, such as for kernels that it loads at their first use. Chosen.
constexpr uint64_t least_backend_bytes = 32 * mib;
// Below this budget the driver's figures are too coarse to be counted.
constexpr uint64_t backend_counted_from = 256 * mib;

// Budgets that follow free memory are rounded down to this, so that they do not change with every page. Chosen.
constexpr uint64_t budget_step_bytes = 64 * mib;

// Resident weights lie in about so many buffers, so that a network can give some back. Drivers round each buffer up to
// 2 MiB: at the least size that is 3% on average. The host's pages are 4 KiB. The largest size is chosen.
constexpr uint64_t resident_buffers = 24;
constexpr uint64_t min_buffer_bytes = 32 * mib, min_host_buffer_bytes = uint64_t{64} << 10;
constexpr uint64_t max_buffer_bytes = gib;

// Host memory that stays free when converted copies of weights are kept. Chosen.
constexpr uint64_t kept_free_bytes = 4 * gib;

// The largest piece of a convolution's patches, and of attention's scores, that a graph holds at once. Chosen: small
// beside the least budgets of released models, large beside what starting an operation costs.
constexpr size_t piece_of_work_bytes = 64 * mib;

// A larger attention goes in several operations, between which a computation can be cancelled. Derived: about 0.1 s on
// a core that does 100 GFLOP/s.
constexpr double max_operation_flops = 1e10;

// Uploads -----------------------------------------------------------------------------------------------------------

// Uploads go through a few pieces of pinned memory of this size. Chosen: 0.7 ms at 12 GB/s.
constexpr size_t upload_piece_bytes = 8 * mib;
// Weights that are kept pinned lie in blocks of this size. Chosen; the ends of blocks stay empty, for which a share
// more is pinned.
constexpr size_t pinned_block_bytes = 256 * mib;
constexpr uint64_t pinned_spare_share = 8;
// Threads that copy to pinned memory: a quarter of the cores, and no more than this. Chosen.
constexpr int max_copying_threads = 4;
// Copying is slower than the link if it waits for the link less than this share of its own time; judged once so much
// was copied. Chosen.
constexpr double slow_copying_share = 0.1;
constexpr uint64_t judged_copied_bytes = 256 * mib;
// A run that uploads more than this measures the link's speed. Derived: 3 ms at 12 GB/s, long compared with starting
// uploads.
constexpr uint64_t telling_upload_bytes = 32 * mib;

// Time --------------------------------------------------------------------------------------------------------------

// Seconds to start one graph, if it is not measured. Chosen; a measurement above it is not believed.
constexpr double dispatch_seconds = 1e-4;

// Stage times are taken from the second run, since the first one loads. A device's backend may record graphs in its
// next runs, so its times are taken from this run, too. Chosen.
constexpr size_t settled_runs = 5;
// A plan for inputs of another size is thought of after so many runs with them. Chosen.
constexpr size_t runs_to_stay = 4;
// A new plan is looked for if the step's time is off by more than the first share, or if the second share of it is
// above the limit. It is taken if its time is below the second share of the present plan's. Chosen: above the scatter
// of a step's time.
constexpr double surprising_share = 0.1, worth_a_new_plan = 0.97;
constexpr int max_new_plans = 2;

// Threads -----------------------------------------------------------------------------------------------------------

// Forced switches a second of time on cores, above which the machine is crowded. The clock does not serve: threads of a
// crowded machine hardly run, so they are hardly ever taken off. Measured on the Xeon, 2026-11-26, benchmarks/busy.py:
// some 350 with four busy processes a core, a handful on the quiet machine.
constexpr double crowded_switches_per_cpu_second = 100;
// Less time on cores is not judged, since other threads of this process may be busy for a moment. Chosen.
constexpr double judged_cpu_seconds = 0.05;
// Runs without trouble before more threads are tried again: at first, and at most. Chosen.
constexpr int first_patience = 20, max_patience = 2000;

}  // namespace sdcpp::calibration
