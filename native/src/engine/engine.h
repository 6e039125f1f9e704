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
#include <tuple>

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
    void               park(uint64_t turn);
    void               resume(uint64_t turn);
    void               prefetch(const std::string & model);
    void               forget(const std::string & model, const std::string & session);
    std::vector<Event> poll() { return events.take(); }
    int                fileno() const { return events.fileno(); }
    EngineStats        stats() const;
    void               close();

  private:
    using Command = std::function<void()>;   // runs on the engine thread, between two steps
    using Runners = std::map<int, std::shared_ptr<Runner>>;

    struct LoadedHost {   // a file in host memory, for whoever loads it again
        ModelId                  id;
        std::weak_ptr<HostModel> model;
    };

    void run();
    void post(Command command);
    void run_on_engine_thread(const Command & command);   // waits; rethrows
    void post_to_turn(bool (Runner::*what)(uint64_t), uint64_t turn);

    void      reserve_name(const std::string & model);
    void      release_name(const std::string & model);
    std::shared_ptr<Runner> find(const std::string & model) const;

    // engine_memory.cpp: loading, contexts, and who has which bytes
    std::pair<std::shared_ptr<HostModel>, ModelId> hold(const LoadSpec & spec);
    void      install(const std::shared_ptr<Runner> & runner);
    void      withdraw(std::shared_ptr<Runner> & runner);
    Footprint measure(Runner & runner, uint64_t context_bytes) const;
    uint64_t  context_allowance(const Runners & models) const;
    size_t    arena_for(const Runners & models) const;
    uint64_t  taken_bytes(const Runners & models) const;
    void      require_room(const Runners & models, size_t arena_bytes) const;
    size_t    weight_bytes(const std::function<bool(const Runner &)> & which) const;   // of distinct hosts
    bool      all_fit() const;
    bool      contexts_fit_together() const;
    void      open_context(Runner & runner);
    void      close_contexts_for(const Runner & opening);
    bool      is_held(ModelId host_id) const;
    void      clear_device();
    void      prepare_sessions();
    void      make_arena(size_t arena_bytes, const Runners & models);

    Runner * choose();
    Runner * next_in_turn();
    double   quantum_s(const Runner & other) const;
    bool     fit_together() const;
    double   fill_limit_s(const Runner & runner) const;
    void     step(Runner & runner);
    void     hint(Residency::Joining joining);
    void     hint_after_step();
    NextUse  outlook(ModelId model, int unit) const;

    const EngineConfig config;
    const Device       device;
    const int          n_threads;
    const uint64_t     others_bytes;   // in use on the device before, by others
    const uint64_t     budget_bytes;   // 0 on the CPU where none was given
    const bool         in_place;       // on the CPU without a budget: computed where the files are mapped, nothing is copied
    HostBudget         host_budget;
    KeptBackend        backend;   // of all contexts; engine thread only
    SessionStore       sessions;
    EventQueue         events;
    Helpers            helpers;
    Residency          residency;
    const Residency::Distance distances = [this](ModelId model, int unit) { return outlook(model, unit); };

    std::mutex                                       load_mutex;   // held while a model is loaded or unloaded
    std::map<std::string, LoadedHost>                hosts;        // [identity of the file]
    ModelId                                          next_host_id = 0;

    // Engine thread only.
    Runner *          running  = nullptr;   // of the last step
    double            since_s  = 0;         // it has been running
    ModelId           hinted   = -1;
    std::tuple<Runner *, bool, ModelId, uint64_t> hint_done;   // running, at work, hinted and the arena's changes when nothing more could be hinted
    bool              hinted_meanwhile = false;   // in the last step
    bool              hint_put_off     = false;   // after it
    int               next_id  = 0;

    mutable std::mutex                   mutex;   // guards everything below
    std::condition_variable              wake;
    std::vector<Command>                 mailbox;
    bool                                 stopping = false;
    Runners                              runners;   // changed by the engine thread alone, which reads it unlocked
    std::map<std::string, int>           names;     // -1 while loading
    std::atomic<uint64_t>                n_steps = 0, n_switches = 0;
    std::atomic<int>                     n_loading = 0;   // files that are on their way into host memory
    std::atomic<double>                  steps_s = 0;
    std::thread                          thread;
};

}  // namespace agentmux
