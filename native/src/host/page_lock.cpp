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

constexpr size_t slice_bytes = 4u << 20;

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

void PageLocked::take(const Device & device, std::vector<Unit> & units, int n_threads, const Progress & progress) {
    ggml_backend_buffer_type_t type = device.host_buffer_type();
    if (type == ggml_backend_cpu_buffer_type()) return;   // this device has no such memory
    const uint64_t total = total_bytes(units);
    uint64_t       done  = 0;
    for (Unit & unit : units) {
        if (!budget.reserve(unit.bytes)) return;
        BufferPtr buffer(ggml_backend_buft_alloc_buffer(type, unit.bytes));
        // Where the machine grants no more, backends hand out plain memory: no better than the file's own pages.
        if (!buffer || ggml_backend_buffer_get_type(buffer.get()) != type) return budget.release(unit.bytes);
        bytes += unit.bytes;
        char *            at = static_cast<char *>(ggml_backend_buffer_get_base(buffer.get()));
        std::vector<Copy> copies;
        for (const Weight & w : unit.weights) {
            copies.push_back({at, static_cast<const char *>(w.host), w.bytes});
            at += w.arena_bytes;
        }
        copy_together(copies, n_threads);
        ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        for (size_t i = 0; i < copies.size(); i++) {
            unit.weights[i].host        = copies[i].to;
            unit.weights[i].host_buffer = buffer.get();
            unit.weights[i].page_locked = true;
        }
        buffers.push_back(std::move(buffer));
        progress(done += unit.bytes, total);
    }
}

}  // namespace agentmux
