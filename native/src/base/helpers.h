// A few threads that help with many short, independent pieces of work.
//
// The caller works too and takes pieces as the helpers do, one after another, so a helper that wakes late costs nothing:
// its share has been done by then. Waking a thread takes as long as a whole piece, though, and jobs come regularly, one for
// each decode step. So helpers that are to be alert sleep until shortly before the next job is due, and look out for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace agentmux {

class Helpers {
  public:
    // alert: helpers may use a core for a moment before a job is due; not where others compute on these cores.
    Helpers(int n_threads, bool alert);
    ~Helpers();
    Helpers(const Helpers &) = delete;
    Helpers & operator=(const Helpers &) = delete;

    // Calls work(0) to work(n - 1), each once, on this thread and the helpers, and returns when all have returned. `work`
    // must not throw. One caller at a time; n below a million.
    void each(size_t n, const std::function<void(size_t)> & work);
    int  n_threads() const { return int(threads.size()); }

  private:
    // A job and its next piece in one word, so that taking a piece is one step: nobody takes one of a job that has ended.
    struct Ticket {
        uint32_t job, size, next;
        bool     has_pieces() const { return next < size; }
    };
    static uint64_t pack(Ticket ticket);
    static Ticket   unpack(uint64_t word);

    void run(size_t index);
    bool take_piece();
    bool has_pieces() const { return unpack(ticket.load()).has_pieces(); }
    void look_out();
    void note_begin();

    const bool                                       alert;
    std::atomic<uint64_t>                            ticket = 0;
    std::atomic<const std::function<void(size_t)> *> job    = nullptr;
    std::atomic<size_t>                              left   = 0;    // pieces that have not returned
    std::atomic<double>                              due_s  = 0;    // when the next job is expected; 0: not known
    double                                           began_s = 0;   // the last job; the caller's
    std::atomic<int>                                 awake   = 0;   // helpers that need not be woken
    std::atomic<bool>                                stopping = false;
    std::mutex                                       mutex;
    std::condition_variable                          wake, done;
    std::vector<std::thread>                         threads;
};

}  // namespace agentmux
