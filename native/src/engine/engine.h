// The engine: any number of models, one arena, one thread that decodes and one that uploads.
//
// The engine thread owns models, contexts, slots and the arena's map; nothing else touches them. Other threads leave
// commands in a mailbox, read snapshots, and load files into host memory themselves before handing them over.
#pragma once

#include "engine/runner.h"

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace agentmux {

class Engine {
  public:
    explicit Engine(const EngineConfig & config);
    ~Engine() { close(); }

    // See agentmux/engine/base.py for what each does and throws.
    Footprint          load(const LoadSpec & spec);
    void               unload(const std::string & model);
    void               submit(const TurnRequest & request);
    void               cancel(uint64_t turn);
    void               prefetch(const std::string & model);
    std::vector<Event> poll() { return events.take(); }
    int                fileno() const { return events.fileno(); }
    EngineStats        stats() const;
    void               close();

  private:
    using Command = std::function<void()>;   // runs on the engine thread, between two steps
    using Runners = std::map<ModelId, std::shared_ptr<Runner>>;

    void run();
    void post(Command command);
    void run_on_engine_thread(const Command & command);   // waits; rethrows

    void      reserve_name(const std::string & model);
    void      release_name(const std::string & model);
    void      install(const std::shared_ptr<Runner> & runner);
    BufferPtr show_zeros(const HostModel & host) const;
    Footprint measure(Runner & runner, uint64_t context_bytes) const;
    size_t    arena_for(const Runners & models) const;
    void      require_room(const Runners & models, size_t arena_bytes) const;
    std::shared_ptr<Runner> find(const std::string & model) const;

    Runner * choose();
    bool     fit_together() const;
    double   fill_limit_s(const Runner & runner) const;
    void     step(Runner & runner);
    void     hint();
    NextUse  outlook(ModelId model, int unit) const;

    const EngineConfig config;
    const Device       device;
    const int          n_threads;
    const uint64_t     others_bytes;   // in use on the device before, by others
    const uint64_t     budget_bytes;   // 0 on the CPU where none was given
    EventQueue         events;
    Residency          residency;
    const Residency::Distance distances = [this](ModelId model, int unit) { return outlook(model, unit); };

    // Engine thread only.
    Runner *          running = nullptr;   // of the last step
    ModelId           hinted  = -1;
    ModelId           next_id = 0;

    mutable std::mutex                   mutex;   // guards everything below
    std::condition_variable              wake;
    std::vector<Command>                 mailbox;
    bool                                 stopping = false;
    Runners                              runners;   // changed by the engine thread alone, which reads it unlocked
    std::map<std::string, ModelId>       names;     // -1 while loading
    std::atomic<uint64_t>                n_steps = 0, n_switches = 0;
    std::thread                          thread;
};

}  // namespace agentmux
