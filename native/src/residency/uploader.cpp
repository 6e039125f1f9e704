#include "residency/uploader.h"

#include "base/clock.h"

#include <ggml.h>

#include <algorithm>
#include <cstring>

namespace agentmux {

namespace {

constexpr size_t chunk_bytes = 8u << 20;   // 2 MiB costs bandwidth, 32 MiB costs latency
constexpr double longest_lag_s = 1e-3;        // that a timetable makes up for

}  // namespace

Uploader::Uploader(const Device & device, uint64_t link_bytes_per_s)
    : rate(link_bytes_per_s), stream(device.has_own_memory() ? ggml_backend_dev_init(device.handle(), nullptr) : nullptr),
      staging(stream ? ggml_backend_buft_alloc_buffer(device.host_buffer_type(), 2 * chunk_bytes) : nullptr), thread([this] { run(); }) {}

Uploader::~Uploader() {
    {
        std::lock_guard lock(mutex);
        stopping = true;
    }
    wake.notify_all();
    thread.join();
    if (stream) ggml_backend_free(stream);
}

void Uploader::enqueue(PlacedUnit & unit, ggml_backend_buffer_t arena, bool is_hinted) {
    {
        std::lock_guard lock(mutex);
        (is_hinted ? hinted : wanted).push_back({&unit, arena, is_hinted});
    }
    wake.notify_one();
}

bool Uploader::cancel(PlacedUnit & unit) {
    std::lock_guard lock(mutex);
    for (std::deque<Job> * jobs : {&wanted, &hinted}) {
        const auto job = std::find_if(jobs->begin(), jobs->end(), [&](const Job & j) { return j.unit == &unit; });
        if (job == jobs->end()) continue;
        jobs->erase(job);
        unit.state = UnitState::absent;
        return true;
    }
    return false;
}

void Uploader::promote(int model) {
    std::lock_guard lock(mutex);
    const auto mine = std::stable_partition(hinted.begin(), hinted.end(), [&](const Job & j) { return j.unit->model != model; });
    for (auto job = mine; job != hinted.end(); job++) wanted.push_back({job->unit, job->arena, true});
    hinted.erase(mine, hinted.end());
}

double Uploader::wait(const PlacedUnit & unit) {
    if (unit.state == UnitState::resident) return 0;
    const double     started = now_s();
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return unit.state != UnitState::arriving; });
    return now_s() - started;
}

void Uploader::drain() {
    std::unique_lock lock(mutex);
    for (std::deque<Job> * jobs : {&wanted, &hinted}) {
        for (const Job & job : *jobs) job.unit->state = UnitState::absent;
        jobs->clear();
    }
    done.wait(lock, [&] { return current == nullptr; });
}

const PlacedUnit * Uploader::pause() {
    std::lock_guard lock(mutex);
    paused = true;
    return current;
}

Uploader::Pause::Pause(Uploader & uploader) : under_way(uploader.pause()), uploader(uploader) {}

Uploader::Pause::~Pause() {
    {
        std::lock_guard lock(uploader.mutex);
        uploader.paused = false;
    }
    uploader.wake.notify_one();
}

UploadCounters Uploader::counters() const {
    std::lock_guard lock(mutex);
    return counts;
}

uint64_t Uploader::bytes_of(int model) const {
    std::lock_guard lock(mutex);
    return size_t(model) < bytes_of_model.size() ? bytes_of_model[size_t(model)] : 0;
}

void Uploader::run() {
    std::unique_lock lock(mutex);
    while (true) {
        wake.wait(lock, [&] { return stopping || (!paused && (!wanted.empty() || !hinted.empty())); });
        if (stopping) return;
        std::deque<Job> & jobs = wanted.empty() ? hinted : wanted;
        const Job         job  = jobs.front();
        jobs.pop_front();
        current = job.unit;
        lock.unlock();
        const double started = now_s();
        copy(job);
        lock.lock();
        counts.busy_s += now_s() - started;
        counts.bytes += job.unit->unit->bytes;
        if (bytes_of_model.size() <= size_t(job.unit->model)) bytes_of_model.resize(size_t(job.unit->model) + 1);
        bytes_of_model[size_t(job.unit->model)] += job.unit->unit->bytes;
        if (job.hinted) counts.prefetched_bytes += job.unit->unit->bytes;
        current         = nullptr;
        job.unit->state = UnitState::resident;
        done.notify_all();
    }
}

void Uploader::copy(const Job & job) {
    for (const Weight & weight : job.unit->unit->weights) {
        // Backends that read past a quantised row's end zero that padding here; what lay there before may be a NaN.
        if (weight.arena_bytes > weight.bytes) ggml_backend_buffer_init_tensor(job.arena, weight.tensor);
        copy_weight(weight);
    }
}

void Uploader::copy_weight(const Weight & weight) {
    if (staging && !weight.page_locked) return copy_staged(weight);
    for (size_t at = 0; at < weight.bytes; at += chunk_bytes) {
        const size_t n       = std::min(chunk_bytes, weight.bytes - at);
        const double started = now_s();
        const char * from    = static_cast<const char *>(weight.host) + at;
        if (stream) {
            ggml_backend_tensor_set_async(stream, weight.tensor, from, at, n);
            ggml_backend_synchronize(stream);
        } else {
            ggml_backend_tensor_set(weight.tensor, from, at, n);
        }
        if (rate) hold_to_rate(started, n);
    }
}

void Uploader::copy_staged(const Weight & weight) {
    char *     base  = static_cast<char *>(ggml_backend_buffer_get_base(staging.get()));
    const auto stage = [&](size_t at) {
        if (at < weight.bytes) std::memcpy(base + at / chunk_bytes % 2 * chunk_bytes, static_cast<const char *>(weight.host) + at, std::min(chunk_bytes, weight.bytes - at));
    };
    stage(0);
    for (size_t at = 0; at < weight.bytes; at += chunk_bytes) {
        const size_t n       = std::min(chunk_bytes, weight.bytes - at);
        const double started = now_s();
        ggml_backend_tensor_set_async(stream, weight.tensor, base + at / chunk_bytes % 2 * chunk_bytes, at, n);
        stage(at + chunk_bytes);
        ggml_backend_synchronize(stream);
        if (rate) hold_to_rate(started, n);
    }
}

// By a timetable, so that a sleep that took too long is made up for; after a pause it begins anew.
void Uploader::hold_to_rate(double started_s, uint64_t bytes) {
    if (started_s > due_s + longest_lag_s) due_s = started_s;
    due_s += double(bytes) / double(rate);
    const double left_s = due_s - now_s();
    if (left_s > 0) std::this_thread::sleep_for(std::chrono::duration<double>(left_s));
}

}  // namespace agentmux
