#include "host/page_lock.h"

#include <ggml-backend.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace agentmux {

namespace {

struct Copy {
    char *       to;
    const char * from;
    size_t       bytes;
};

constexpr size_t    slice_bytes       = 4u << 20;
constexpr uintptr_t page_bytes        = 4096;
constexpr uintptr_t largest_gap_bytes = 64u << 20;

// One thread cannot use a machine's whole memory bandwidth.
void copy_together(const std::vector<Copy> & copies, int n_threads) {
    std::vector<Copy> slices;
    for (const Copy & copy : copies) {
        for (size_t at = 0; at < copy.bytes; at += slice_bytes) {
            slices.push_back({copy.to + at, copy.from + at, std::min(slice_bytes, copy.bytes - at)});
        }
    }
    const auto every_nth = [&](size_t first) {
        for (size_t i = first; i < slices.size(); i += size_t(n_threads)) std::memcpy(slices[i].to, slices[i].from, slices[i].bytes);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < n_threads; t++) others.emplace_back(every_nth, size_t(t));
    every_nth(0);
    for (std::thread & t : others) t.join();
}

}  // namespace

PageLocked::~PageLocked() {
    for (void * at : locked) device.page_unlock(at);
    budget.release(bytes);
}

void PageLocked::take(std::vector<Unit> & units, int n_threads, const Progress & progress) {
    if (device.host_buffer_type() == ggml_backend_cpu_buffer_type()) return;   // this device has no such memory
    const uint64_t total = total_bytes(units);
    if (lock_mapped(units)) return progress(total, total);
    uint64_t done = 0;
    for (Unit & unit : units) {
        if (!copy(unit, n_threads)) return;
        progress(done += unit.bytes, total);
    }
}

// Weights that lie near each other are locked in one go, from the page where the first begins to the one where the last
// ends. False where the backend cannot do it at all.
bool PageLocked::lock_mapped(std::vector<Unit> & units) {
    std::vector<Weight *> by_address;
    for (Unit & unit : units) {
        for (Weight & w : unit.weights) by_address.push_back(&w);
    }
    std::sort(by_address.begin(), by_address.end(), [](const Weight * a, const Weight * b) { return a->host < b->host; });
    const auto begin = [](const Weight * w) { return reinterpret_cast<uintptr_t>(w->host) / page_bytes * page_bytes; };
    const auto end   = [](const Weight * w) { return (reinterpret_cast<uintptr_t>(w->host) + w->bytes + page_bytes - 1) / page_bytes * page_bytes; };
    for (auto first = by_address.begin(); first != by_address.end();) {
        // As far as the budget reaches, without a gap larger than what tensors of no unit may leave.
        const uintptr_t from = begin(*first);
        uint64_t        booked = 0;
        auto            last   = first;
        for (; last != by_address.end(); last++) {
            const bool near = last == first || begin(*last) <= end(*std::prev(last)) + largest_gap_bytes;
            const auto more = end(*last) - from - booked;
            if (!near || !budget.reserve(more)) break;
            booked += more;
        }
        if (last == first) return true;   // no budget left
        bytes += booked;
        if (!device.page_lock(reinterpret_cast<void *>(from), booked)) {
            bytes -= booked;
            budget.release(booked);
            return !locked.empty();
        }
        locked.push_back(reinterpret_cast<void *>(from));
        for (auto w = first; w != last; w++) (*w)->page_locked = true;
        first = last;
    }
    return true;
}

bool PageLocked::copy(Unit & unit, int n_threads) {
    if (!budget.reserve(unit.bytes)) return false;
    ggml_backend_buffer_type_t type = device.host_buffer_type();
    BufferPtr                  buffer(ggml_backend_buft_alloc_buffer(type, unit.bytes));
    // Where the machine grants no more, backends hand out plain memory: no better than the file's own pages.
    if (!buffer || ggml_backend_buffer_get_type(buffer.get()) != type) {
        budget.release(unit.bytes);
        return false;
    }
    bytes += unit.bytes;
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    char *            at = static_cast<char *>(ggml_backend_buffer_get_base(buffer.get()));
    std::vector<Copy> weights;
    for (Weight & w : unit.weights) {
        weights.push_back({at, static_cast<const char *>(w.host), w.bytes});
        w.host        = at;
        w.host_buffer = buffer.get();
        w.page_locked = true;
        at += w.arena_bytes;
    }
    copy_together(weights, n_threads);
    copies.push_back(std::move(buffer));
    return true;
}

}  // namespace agentmux
