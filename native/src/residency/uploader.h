// One thread copies units into the arena, through a backend instance (and so a stream) of its own.
//
// Copies go in chunks of 8 MiB with one in flight: the computing stream's own small inputs queue behind whatever is in
// the copy engine, and a whole model enqueued at once would hold up the very prefill that it is meant to serve.
// What is not in page-locked memory goes through two page-locked chunks, one filled while the other is on its way.
#pragma once

#include "device/device.h"
#include "model/units.h"
#include "residency/placement.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace agentmux {

enum class UnitState : uint8_t { absent, arriving, resident, on_host };

// A unit's place in the arena. `state` may be read from anywhere; everything else belongs to the engine thread.
struct PlacedUnit {
    const Unit *           unit   = nullptr;
    int                    model  = -1;
    int                    index  = -1;   // in its model
    std::vector<Piece>     pieces;        // [weight]
    std::atomic<UnitState> state  = UnitState::absent;
};

struct UploadCounters {
    uint64_t bytes            = 0;
    uint64_t prefetched_bytes = 0;     // uploaded while nothing waited for them: hinted
    double   busy_s           = 0;

    // Seen while uploading; 0 before the first upload.
    double bytes_per_s() const { return busy_s > 0 ? double(bytes) / busy_s : 0; }
};

class Uploader {
  public:
    // link_bytes_per_s: hold to this rate; 0 is as fast as it goes.
    Uploader(const Device & device, uint64_t link_bytes_per_s);
    ~Uploader();
    Uploader(const Uploader &) = delete;
    Uploader & operator=(const Uploader &) = delete;

    // Starts the copy of a unit to its offset in `arena`; its state must be `arriving`. Hinted copies yield to wanted ones.
    void enqueue(PlacedUnit & unit, ggml_backend_buffer_t arena, bool hinted);
    // Takes back a copy that has not begun; false where it has.
    bool cancel(PlacedUnit & unit);
    // Makes a hinted model's pending copies wanted ones.
    void promote(int model);
    // Until the unit has arrived. Returns the seconds spent.
    double wait(const PlacedUnit & unit);
    // While it lives, no copy begins; the one under way, if any, goes on.
    class Pause {
      public:
        explicit Pause(Uploader & uploader);
        ~Pause();
        Pause(const Pause &)             = delete;
        Pause & operator=(const Pause &) = delete;

        const PlacedUnit * const under_way;   // at its beginning; null: none

      private:
        Uploader & uploader;
    };
    // Until nothing is under way. What had not begun stays queued no longer: it is absent again.
    void drain();

    UploadCounters counters() const;
    uint64_t       bytes_of(int model) const;   // uploaded

  private:
    struct Job {
        PlacedUnit *          unit;
        ggml_backend_buffer_t arena;
        bool                  hinted;
    };

    const PlacedUnit * pause();
    void run();
    void copy(const Job & job);
    void copy_weight(const Weight & weight);
    void copy_staged(const Weight & weight);
    void hold_to_rate(double started_s, uint64_t bytes);

    const uint64_t          rate;
    double                  due_s = 0;   // the copying thread's: when the last chunk may be there at that rate
    ggml_backend_t          stream;   // null on the CPU: plain copies
    BufferPtr               staging;  // two page-locked chunks; null on the CPU
    mutable std::mutex      mutex;    // guards everything below
    std::condition_variable wake, done;
    std::deque<Job>         wanted, hinted;
    const PlacedUnit *      current  = nullptr;
    bool                    stopping = false, paused = false;
    UploadCounters          counts;
    std::vector<uint64_t>   bytes_of_model;   // [model]
    std::thread             thread;
};

}  // namespace agentmux
