#include "base/helpers.h"

namespace agentmux {

Helpers::Helpers(int n_threads) {
    for (int i = 0; i < n_threads; i++) threads.emplace_back([this] { run(); });
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
    std::unique_lock lock(mutex);
    job  = &work;
    next = 0;
    size = left = n;
    wake.notify_all();
    take_pieces(lock);
    done.wait(lock, [&] { return left == 0; });
    job = nullptr;
}

void Helpers::take_pieces(std::unique_lock<std::mutex> & lock) {
    while (job && next < size) {
        const size_t piece = next++;
        const auto & work  = *job;
        lock.unlock();
        work(piece);
        lock.lock();
        if (--left == 0) done.notify_one();
    }
}

void Helpers::run() {
    std::unique_lock lock(mutex);
    while (!stopping) {
        wake.wait(lock, [&] { return stopping || (job && next < size); });
        take_pieces(lock);
    }
}

}  // namespace agentmux
