// A few threads that help with many short, independent pieces of work.
//
// They sleep between jobs. The caller works too and takes pieces as the helpers do, one after another, so a helper that
// wakes late costs nothing: its share has been done by then.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace agentmux {

class Helpers {
  public:
    explicit Helpers(int n_threads);
    ~Helpers();
    Helpers(const Helpers &) = delete;
    Helpers & operator=(const Helpers &) = delete;

    // Calls work(0) to work(n - 1), each once, on this thread and the helpers, and returns when all have returned. `work`
    // must not throw. One caller at a time.
    void each(size_t n, const std::function<void(size_t)> & work);

  private:
    void run();
    void take_pieces(std::unique_lock<std::mutex> & lock);

    std::mutex                           mutex;   // guards everything below
    std::condition_variable              wake, done;
    const std::function<void(size_t)> *  job = nullptr;
    size_t                               next = 0, size = 0, left = 0;
    bool                                 stopping = false;
    std::vector<std::thread>             threads;
};

}  // namespace agentmux
