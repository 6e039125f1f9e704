#include "base/helpers.h"

#include "base/clock.h"

#include <algorithm>
#include <chrono>

namespace agentmux {

namespace {

constexpr double longest_interval_s = 0.05;     // jobs further apart are not waited for
constexpr double lead_s             = 150e-6;   // looked out for before it is due: a timer and a wake-up are late by less
constexpr double patience_s         = 150e-6;   // and after
constexpr double longest_spin_s     = 200e-6;   // of the caller, until it sleeps as well
constexpr int    job_bits = 24, size_bits = 20, next_bits = 20;

void breathe() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

template <class Condition> bool spin_until(const Condition & condition, double until_s) {
    do {
        for (int i = 0; i < 16; i++) {
            if (condition()) return true;
            breathe();
        }
    } while (now_s() < until_s);
    return condition();
}

}  // namespace

uint64_t Helpers::pack(Ticket t) { return uint64_t(t.job) << (size_bits + next_bits) | uint64_t(t.size) << next_bits | t.next; }

Helpers::Ticket Helpers::unpack(uint64_t word) {
    return {uint32_t(word >> (size_bits + next_bits)), uint32_t(word >> next_bits) & ((1u << size_bits) - 1), uint32_t(word) & ((1u << next_bits) - 1)};
}

Helpers::Helpers(int n_threads, bool alert) : alert(alert) {
    for (int i = 0; i < n_threads; i++) threads.emplace_back([this, i] { run(size_t(i)); });
}

Helpers::~Helpers() {
    {
        std::lock_guard lock(mutex);
        stopping = true;
    }
    wake.notify_all();
    for (std::thread & thread : threads) thread.join();
}

void Helpers::each(size_t n, const std::function<void(size_t)> & work) {
    if (threads.empty() || n < 2) {
        for (size_t i = 0; i < n; i++) work(i);
        return;
    }
    note_begin();
    job.store(&work, std::memory_order_relaxed);
    left.store(n, std::memory_order_relaxed);
    const uint32_t number = (unpack(ticket.load(std::memory_order_relaxed)).job + 1) & ((1u << job_bits) - 1);
    ticket.store(pack({number, uint32_t(n), 0}), std::memory_order_seq_cst);
    if (awake.load(std::memory_order_seq_cst) < int(std::min(n - 1, threads.size()))) {
        { std::lock_guard lock(mutex); }   // who has just seen no pieces is asleep now
        wake.notify_all();
    }
    while (take_piece()) {}
    const auto all_returned = [&] { return left.load(std::memory_order_acquire) == 0; };
    if (spin_until(all_returned, now_s() + longest_spin_s)) return;
    std::unique_lock lock(mutex);
    done.wait(lock, all_returned);
}

// Regular as long as two jobs in a row are about as far apart as the two before.
void Helpers::note_begin() {
    const double now = now_s(), interval = now - began_s;
    due_s.store(alert && interval < longest_interval_s ? now + interval : 0, std::memory_order_relaxed);
    began_s = now;
}

bool Helpers::take_piece() {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    while (true) {
        Ticket next = unpack(seen);
        if (!next.has_pieces()) return false;
        const uint32_t piece = next.next++;
        if (!ticket.compare_exchange_weak(seen, pack(next), std::memory_order_acq_rel)) continue;
        (*job.load(std::memory_order_relaxed))(piece);   // this job's: it lasts until this piece has returned
        if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            { std::lock_guard lock(mutex); }
            done.notify_one();
        }
        return true;
    }
}

void Helpers::run(size_t index) {
    while (!stopping) {
        awake++;
        while (take_piece()) {}
        // As many as the last job could use.
        if (due_s.load(std::memory_order_relaxed) > 0 && index + 1 < unpack(ticket.load(std::memory_order_relaxed)).size) look_out();
        awake--;
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stopping || has_pieces(); });
    }
}

// Returns when there are pieces, or none have come when they were due.
void Helpers::look_out() {
    const double due = due_s.load(std::memory_order_relaxed);
    {
        std::unique_lock lock(mutex);
        awake--;   // until then it has to be woken
        const std::chrono::duration<double> sleep(due - lead_s - now_s());
        if (sleep.count() > 0) wake.wait_for(lock, sleep, [&] { return stopping || has_pieces(); });
        awake++;
    }
    spin_until([&] { return stopping || has_pieces(); }, due + patience_s);
}

}  // namespace agentmux
