// Queued uploads, on the simulated device, whose queue carries each one out at once: also to be run under the thread
// sanitizer.
#include "device/upload_queue.h"

#include <doctest/doctest.h>

#include <ggml-cpp.h>

#include <cstring>
#include <numeric>

#include "base/error.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

struct Fixture {
    std::atomic<bool> cancelled{false};
    Device device;
    ggml_context_ptr context{ggml_init({ggml_tensor_overhead() * 8, nullptr, true})};
    std::vector<ggml_backend_buffer_ptr> buffers;

    explicit Fixture(const std::string& name = "simulated") : device(name, 1, &cancelled) {}
    ggml_tensor* tensor(size_t floats) {
        ggml_tensor* out = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, static_cast<int64_t>(floats));
        buffers.emplace_back(ggml_backend_buft_alloc_buffer(device.buffer_type(), 4 * floats));
        ggml_backend_tensor_alloc(buffers.back().get(), out, ggml_backend_buffer_get_base(buffers.back().get()));
        return out;
    }
};

std::vector<float> numbers(size_t count, float first) {
    std::vector<float> out(count);
    std::iota(out.begin(), out.end(), first);
    return out;
}

void put(UploadQueue& queue, ggml_tensor* tensor, const std::vector<float>& values, const std::atomic<bool>& stop) {
    queue.put(tensor, 4 * values.size(), UploadQueue::from_memory(reinterpret_cast<const std::byte*>(values.data())),
              stop);
}

bool holds(const ggml_tensor* tensor, const std::vector<float>& values) {
    return std::memcmp(tensor->data, values.data(), 4 * values.size()) == 0;
}

constexpr size_t mebi = size_t{1} << 18;  // floats

}  // namespace

TEST_CASE("tensors of any size arrive whole, also if they pass the staging memory several times") {
    Fixture f;
    UploadQueue queue(f.device);
    std::vector<std::pair<ggml_tensor*, std::vector<float>>> all;
    float first = 0;
    for (const size_t floats : {size_t{1}, size_t{63}, 3 * mebi + 1, 8 * mebi, 75 * mebi + 5}) {
        all.emplace_back(f.tensor(floats), numbers(floats, first));
        put(queue, all.back().first, all.back().second, f.cancelled);
        first += 7;
    }
    queue.finish();
    for (const auto& [tensor, values] : all) CHECK(holds(tensor, values));
}

TEST_CASE("marks rise, and are reached when what was put before them has arrived") {
    Fixture f;
    UploadQueue queue(f.device);
    CHECK(queue.mark() == 0);
    ggml_tensor* one = f.tensor(mebi);
    const auto values = numbers(mebi, 1);
    put(queue, one, values, f.cancelled);
    const uint64_t first = queue.mark();
    CHECK(first > 0);
    CHECK(queue.mark() == first);
    queue.put_pinned(f.tensor(mebi), reinterpret_cast<const std::byte*>(values.data()));
    const uint64_t second = queue.mark();
    CHECK(second > first);
    queue.finish();
    CHECK(queue.arrived() == second);
    CHECK(holds(one, values));
}

TEST_CASE("an upload stops when it is told to") {
    Fixture f;
    UploadQueue queue(f.device);
    const auto values = numbers(mebi, 1);
    f.cancelled = true;
    CHECK(throws(SDCPP_CANCELLED, [&] { put(queue, f.tensor(mebi), values, f.cancelled); }));
    f.cancelled = false;
    ggml_tensor* other = f.tensor(mebi);
    put(queue, other, values, f.cancelled);
    queue.finish();
    CHECK(holds(other, values));
}

TEST_CASE("a link that is slowed down takes its time") {
    Fixture slow("simulated:link=0.1");
    UploadQueue queue(slow.device);
    const auto values = numbers(mebi, 1);
    const auto start = Clock::now();
    put(queue, slow.tensor(mebi), values, slow.cancelled);
    queue.finish();
    CHECK(seconds_since(start) >= 4 * mebi / 0.1e9);
}

TEST_CASE("copying is the slower part only once there is enough to judge by") {
    Fixture f;
    UploadQueue queue(f.device);
    const auto values = numbers(mebi, 1);
    put(queue, f.tensor(mebi), values, f.cancelled);
    CHECK(!queue.waits_for_copies());
}

TEST_CASE("memory that was pinned ahead is given out in aligned parts, as far as the device has such memory") {
    Fixture f;
    UploadQueue queue(f.device);
    CHECK(queue.take_pinned(1) == nullptr);
    queue.pin_ahead(1000);
    std::byte* first = nullptr;
    const auto start = Clock::now();
    while (!(first = queue.take_pinned(100)) && seconds_since(start) < 1)
        if (!ggml_backend_dev_host_buffer_type(f.device.handle())) break;
    if (!first) return;  // a device without memory that it can reach
    std::byte* second = queue.take_pinned(100);
    CHECK(second == first + 256);
    CHECK(queue.take_pinned(1000) == nullptr);
    const uint64_t left = queue.free_pinned_bytes();
    queue.give_pinned(second, 100);
    CHECK(queue.free_pinned_bytes() == left + 256);
    CHECK(queue.take_pinned(200) == second);
}

TEST_CASE("what a source throws comes out, from any of the threads that copy, and the queue works after") {
    Fixture f;
    UploadQueue queue(f.device);
    const UploadQueue::Source broken = [](std::byte*, size_t first, size_t) {
        if (first > 0) fail(SDCPP_BAD_FILE, "broken");
    };
    CHECK(throws(SDCPP_BAD_FILE, [&] { queue.put(f.tensor(32 * mebi), 128 * mebi, broken, f.cancelled); }));
    const auto values = numbers(mebi, 1);
    ggml_tensor* other = f.tensor(mebi);
    put(queue, other, values, f.cancelled);
    queue.finish();
    CHECK(holds(other, values));
}
