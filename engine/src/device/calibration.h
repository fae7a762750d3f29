// Numbers that were measured or chosen. Each comment gives the meaning and the origin.
#pragma once

#include <cstdint>

namespace sdcpp::calibration {

constexpr uint64_t mib = uint64_t{1} << 20;

// Free memory that an automatic budget leaves alone, for other programs and for what drivers take. Chosen. On small
// devices an eighth of the free memory takes its place.
constexpr uint64_t margin_bytes = 512 * mib;
constexpr uint64_t margin_share = 8;

// The part of a process' budget that goes to graphs and to the pages of the file that are being read. Fitted to the
// resident memory of whole runs on the CPU (benchmarks/streaming.py --memory), when the process' limit was introduced.
constexpr uint64_t bookkeeping_bytes = 40 * mib;
constexpr uint64_t bookkeeping_share = 24;
// What a process holds beside its networks differs from run to run by this, about: told with the least budget. Chosen.
constexpr uint64_t process_drift_bytes = 8 * mib;

// Memory of a GPU's backend that is not the networks': recorded graphs, libraries, the driver's rounding. Measured on
// an H200 (docs/gpu.md). It holds until it is measured, after the first and the fifth run; a small budget counts an
// eighth.
constexpr uint64_t backend_bytes = 160 * mib;
constexpr uint64_t backend_share = 8;
// Below this budget the driver's figures are too coarse to be counted.
constexpr uint64_t backend_counted_from = 256 * mib;

// A run that uploads more than this measures the link's speed: 3 ms at 12 GB/s, long compared with starting uploads.
constexpr uint64_t telling_upload_bytes = 32 * mib;

// Seconds to start one graph, if it is not measured. Chosen, and the most that a measurement is believed.
constexpr double dispatch_seconds = 1e-4;

// Budgets that follow free memory are rounded down to this, so that they do not change with every page. Chosen.
constexpr uint64_t budget_step_bytes = 64 * mib;

// Resident weights lie in about so many buffers, so that a network can give some back. Drivers round each buffer up to
// 2 MiB: at the least size that is 3% on average. The host's pages are 4 KiB.
constexpr uint64_t resident_buffers = 24;
constexpr uint64_t min_buffer_bytes = 32 * mib, min_host_buffer_bytes = uint64_t{64} << 10;

}  // namespace sdcpp::calibration
