#include "engine/engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <set>

namespace agentmux {

namespace {

constexpr int    default_context_tokens = 4096;
constexpr double shortest_quantum_s = 0.25;
constexpr double switches_per_quantum = 8;   // a quantum is worth this many: at most an eighth of the time goes into them
constexpr auto   idle_time = std::chrono::milliseconds(20);   // without work, before what is not urgent is done
constexpr int    most_helpers = 15;   // that sample beside the engine thread: 16 rows are read at once
constexpr double assumed_link_bytes_per_s = 8e9;   // until one has been seen
// A driver's context takes about half a gibibyte. What is in use beyond this before we begin belongs to others.
constexpr uint64_t largest_driver_share_bytes = 1ull << 30;

int usable_cores() {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? std::max(1, CPU_COUNT(&cores)) : 1;
}

Device open_device(const std::string & name) {
    capture_llama_log();
    llama_backend_init();
    return Device(name);
}

uint64_t default_budget(const Device & device) { return device.has_own_memory() ? device.free_bytes() / 10 * 9 : 0; }

void require_positive(const char * what, int value) {
    if (value < 1) throw Error(ErrorCode::config, std::string(what) + " is " + std::to_string(value) + "; it must be at least 1");
}

Error gone() { return Error(ErrorCode::engine, "the engine is closed"); }

}  // namespace

Engine::Engine(const EngineConfig & c)
    : config(c), device(open_device(c.device)), n_threads(c.threads > 0 ? c.threads : usable_cores()),
      others_bytes(device.used_bytes() > largest_driver_share_bytes ? device.used_bytes() - largest_driver_share_bytes / 2 : 0),
      budget_bytes(c.device_bytes ? c.device_bytes : default_budget(device)),
      in_place(!device.has_own_memory() && !budget_bytes && !c.arena_bytes), host_budget(c.host_bytes), backend(device.handle()), sessions(host_budget, host_memory_of(device)),
      helpers(std::min(most_helpers, n_threads - 1), device.has_own_memory()), residency(device, c.link_bytes_per_s, c.debug_poison),
      thread([this] { run(); }) {}

// ---- any thread -----------------------------------------------------------------------------------------------------

void Engine::post(Command command) {
    {
        std::lock_guard lock(mutex);
        if (stopping) throw gone();
        mailbox.push_back(std::move(command));
    }
    wake.notify_one();
}

void Engine::run_on_engine_thread(const Command & command) {
    std::promise<void> done;
    post([&] {
        try {
            command();
            done.set_value();
        } catch (...) {
            done.set_exception(std::current_exception());
        }
    });
    done.get_future().get();
}

void Engine::reserve_name(const std::string & model) {
    std::lock_guard lock(mutex);
    if (stopping) throw gone();
    if (!names.emplace(model, -1).second) throw Error(ErrorCode::config, "a model named " + model + " is loaded already");
}

void Engine::release_name(const std::string & model) {
    std::lock_guard lock(mutex);
    names.erase(model);
}

Footprint Engine::load(const LoadSpec & asked) {
    LoadSpec spec = asked;
    if (spec.context_tokens != 0) require_positive("context_tokens", spec.context_tokens);
    require_positive("slots", spec.slots);
    require_positive("batch_tokens", spec.batch_tokens);
    reserve_name(spec.model);
    try {
        std::lock_guard lock(load_mutex);   // one at a time: loading is bound by bandwidth, and measures the device
        auto [host, host_id] = hold(spec);
        if (spec.context_tokens == 0) spec.context_tokens = std::min(default_context_tokens, llama_model_n_ctx_train(host->model.get()));
        require_positions(host->file, spec.context_tokens);
        if (spec.slots > std::min(spec.batch_tokens, spec.context_tokens)) {
            throw Error(ErrorCode::config, std::to_string(spec.slots) + " slots do not go into one batch of " +
                                               std::to_string(std::min(spec.batch_tokens, spec.context_tokens)) + " tokens");
        }
        Footprint footprint;
        run_on_engine_thread([&, host = std::move(host), host_id = host_id]() mutable {
            auto runner = std::make_shared<Runner>(std::move(host), host_id, next_id++, spec, events, sessions, helpers, config.debug_hash_logits);
            try {
                install(runner);
            } catch (...) {   // to the byte: the arena is made anew when the failed model's memory is free
                withdraw(runner);
                throw;
            }
            footprint = runner->footprint;
        });
        return footprint;
    } catch (...) {
        release_name(spec.model);
        throw;
    }
}

std::shared_ptr<Runner> Engine::find(const std::string & model) const {
    std::lock_guard lock(mutex);
    if (stopping) throw gone();
    const auto found = names.find(model);
    if (found == names.end() || found->second < 0) throw Error(ErrorCode::model_not_found, "no model named " + model + " is loaded");
    return runners.at(found->second);
}

void Engine::unload(const std::string & model) {
    std::lock_guard loading(load_mutex);
    run_on_engine_thread([&] {
        std::shared_ptr<Runner> runner = find(model);
        release_name(model);
        withdraw(runner);
    });
}

void Engine::submit(const TurnRequest & request) {
    const std::shared_ptr<Runner> runner = find(request.model);
    if (request.max_tokens < 1) throw Error(ErrorCode::request_invalid, "max_tokens is " + std::to_string(request.max_tokens) + "; it must be at least 1");
    for (const std::string & stop : request.stop) {
        if (stop.empty()) throw Error(ErrorCode::request_invalid, "a stop string is empty");
    }
    if (request.logprobs < -1 || request.logprobs > max_logprobs) {
        throw Error(ErrorCode::request_invalid, "logprobs=" + std::to_string(request.logprobs) + " is outside 0 to " + std::to_string(max_logprobs));
    }
    Sampler sampler(runner->vocab(), request.sampling, {request.grammar, request.grammar_after},
                    request.ignore_eos ? runner->ends : std::vector<llama_token>());
    auto    turn = std::make_shared<std::unique_ptr<Turn>>(std::make_unique<Turn>(request, runner->tokenize(request), std::move(sampler)));
    post([this, runner, turn] {
        if (runners.count(runner->id)) {
            runner->enqueue(std::move(*turn));
        } else {   // unloaded in between
            events.push(cancelled_unstarted(**turn));
        }
    });
}

void Engine::post_to_turn(bool (Runner::*what)(uint64_t), uint64_t turn) {
    try {
        post([this, what, turn] {
            for (auto & [_, runner] : runners) {
                if ((runner.get()->*what)(turn)) return;
            }
        });
    } catch (const Error &) { /* closed: all turns have ended */ }
}

void Engine::cancel(uint64_t turn) { post_to_turn(&Runner::cancel, turn); }
void Engine::park(uint64_t turn) { post_to_turn(&Runner::park, turn); }
void Engine::resume(uint64_t turn) { post_to_turn(&Runner::resume, turn); }

void Engine::forget(const std::string & model, const std::string & session) {
    post([this, runner = find(model), session] { runner->forget(session); });
}

void Engine::prefetch(const std::string & model) {
    const std::shared_ptr<Runner> runner = find(model);
    post([this, runner] { hinted = runners.count(runner->id) ? runner->host_id : -1; });
}

EngineStats Engine::stats() const {
    std::lock_guard      lock(mutex);
    const UploadCounters uploads = residency.uploads();
    EngineStats          s;
    s.device              = device.name();
    s.device_budget_bytes = budget_bytes;
    s.arena_bytes         = residency.arena_bytes();
    s.arena_used_bytes    = residency.used_bytes();
    s.device_used_bytes   = device.has_own_memory() ? device.used_bytes() - others_bytes : s.arena_bytes;
    s.uploaded_bytes      = uploads.bytes;
    s.prefetched_bytes    = uploads.prefetched_bytes;
    s.upload_bytes_per_s  = uploads.bytes_per_s();
    s.evicted_units       = residency.evicted_units();
    s.upload_wait_s       = residency.upload_wait_s();
    s.steps               = n_steps;
    s.switches            = n_switches;
    s.step_s              = steps_s;
    s.compactions         = residency.compactions();
    std::set<ModelId> seen;
    for (const auto & [_, runner] : runners) {
        s.repeated_passes += runner->decoder().repeated_passes();
        s.session_hits += runner->slots().n_hits;
        s.session_tokens_reused += runner->slots().n_reused_tokens;
        s.context_bytes += runner->has_context ? runner->footprint.context_bytes : 0;
        if (seen.insert(runner->host_id).second) {
            s.host_weight_bytes += runner->host->host_bytes;
            s.page_locked_bytes += runner->host->page_locked ? runner->host->page_locked->locked_bytes() : 0;
        }
        s.models.push_back({runner->spec.model, residency.map_of(runner->host_id), residency.resident_bytes(runner->host_id), runner->n_active,
                            runner->n_waiting, runner->slots().n_kept, runner->has_context});
    }
    if (in_place) s.arena_bytes = s.arena_used_bytes = s.device_used_bytes = weight_bytes([](const Runner &) { return true; });
    const SessionCounters kept = sessions.counters();
    s.sessions_in_host         = kept.sessions;
    s.session_host_bytes       = kept.bytes;
    s.session_memory_bytes     = sessions.held_bytes();
    s.session_bytes_saved      = kept.saved_bytes;
    s.session_bytes_restored   = kept.restored_bytes;
    s.sessions_dropped         = kept.dropped;
    return s;
}

void Engine::close() {
    {
        std::lock_guard lock(mutex);
        stopping = true;
    }
    wake.notify_one();
    if (thread.joinable()) thread.join();
}

// ---- the engine thread ----------------------------------------------------------------------------------------------

void Engine::run() {
    std::vector<Command> commands;
    while (true) {
        {
            std::unique_lock lock(mutex);
            const auto       busy = [&] { return std::any_of(runners.begin(), runners.end(), [](const auto & r) { return r.second->has_work(); }); };
            const auto       wanted = [&] { return stopping || !mailbox.empty() || busy(); };
            if (!wake.wait_for(lock, idle_time, wanted)) {
                lock.unlock();
                prepare_sessions();
                lock.lock();
                wake.wait(lock, wanted);
            }
            commands.swap(mailbox);
        }
        for (Command & command : commands) {
            command();
            command = nullptr;   // it may hold a runner that the next one frees
        }
        commands.clear();
        if (std::lock_guard lock(mutex); stopping && mailbox.empty()) break;
        if (Runner * runner = choose()) step(*runner);
        hint_after_step();
    }
    for (auto & [_, runner] : runners) runner->cancel_all();
    residency.resize(0);
    Runners ended;   // freed here, on the thread that used them
    std::lock_guard lock(mutex);
    ended.swap(runners);
    names.clear();
}

// Models that fit into the arena together take turns step by step, others by quantum: as long as the model of the last
// step has turns in its slots and its quantum has not passed, it goes on; then comes the one that has wanted to run longest.
Runner * Engine::choose() {
    if (fit_together()) return next_in_turn();
    Runner * oldest = nullptr;
    for (auto & [_, runner] : runners) {
        if (runner.get() == running && running->active() > 0) continue;
        const auto since = runner->wants_since_s();
        if (since && (!oldest || *since < *oldest->wants_since_s())) oldest = runner.get();
    }
    if (running && running->active() > 0 && (!oldest || now_s() - since_s < quantum_s(*oldest))) return running;
    return oldest;
}

Runner * Engine::next_in_turn() {
    const auto has_work = [](const auto & entry) { return entry.second->has_work(); };
    auto       next     = std::find_if(running ? runners.upper_bound(running->id) : runners.begin(), runners.end(), has_work);
    if (next == runners.end()) next = std::find_if(runners.begin(), runners.end(), has_work);
    return next == runners.end() ? nullptr : next->second.get();
}

double Engine::quantum_s(const Runner & other) const {
    const double seen = residency.uploads().bytes_per_s();
    return std::max(shortest_quantum_s, switches_per_quantum * double(other.weight_bytes) / (seen > 0 ? seen : assumed_link_bytes_per_s));
}

bool Engine::fit_together() const {
    const bool weights_fit = in_place || weight_bytes([](const Runner & runner) { return runner.has_work(); }) <= residency.arena_bytes();
    return weights_fit && contexts_fit_together();
}

// Turns submitted after another model's oldest waiting turn do not overtake it, unless both models fit together. A model
// that was chosen and has nothing in its slots yet may always begin, and nobody waits for a model whose slots are full.
double Engine::fill_limit_s(const Runner & runner) const {
    double limit = std::numeric_limits<double>::max();
    if (fit_together() || runner.active() == 0) return limit;
    for (const auto & [_, other] : runners) {
        const bool could_begin = other.get() != &runner && other->active() < other->slots().size();
        if (could_begin) limit = std::min(limit, other->oldest_waiting_s().value_or(limit));
    }
    return limit;
}

void Engine::step(Runner & runner) {
    const bool switched = running && running != &runner;
    if (switched) n_switches++;
    if (running != &runner) since_s = now_s();
    running = &runner;
    if (hinted == runner.host_id) hinted = -1;
    residency.promote(runner.host_id);
    const double started = now_s();
    hinted_meanwhile     = false;
    try {
        open_context(runner);
        runner.fill_slots(fill_limit_s(runner), switched, residency.uploads_of(runner.host_id));
        if (runner.active() == 0) return;
        runner.step(residency, [this] {
            hinted_meanwhile = true;
            hint(Residency::Joining::none);
        });
        n_steps++;
    } catch (const Error & e) {
        runner.fail_step(e);
    } catch (const std::exception & e) {
        runner.fail_step(Error(ErrorCode::engine, e.what()));
    }
    steps_s = steps_s + (now_s() - started);
}

NextUse Engine::outlook(ModelId model, int unit) const {
    if (running && running->host_id == model && running->has_work()) return next_use(Rank::running, running->decoder().distance(unit));
    return next_use(model == hinted ? Rank::hinted : Rank::idle, uint64_t(unit) + 1);
}

// A device that has nothing to compute waits while places are sought, so this is left to the next step, which does it
// while the device computes; once, because not every step can.
void Engine::hint_after_step() {
    hint_put_off = running && running->active() > 0 && !hinted_meanwhile && !hint_put_off;
    if (hint_put_off) return;
    try {
        hint(Residency::Joining::needed);
    } catch (const Error &) {   // no memory to move units with: the hint was only that
        hinted = -1;
    }
}

// Uploads the successor, front first, into what is free and what is needed later still: of the running model only when
// it has nothing to do.
void Engine::hint(Residency::Joining joining) {
    const bool at_work = running && running->has_work();
    if (hinted < 0 || hint_done == std::make_tuple(running, at_work, hinted, residency.changes())) return;
    const auto successor = std::find_if(runners.begin(), runners.end(), [&](const auto & entry) { return entry.second->host_id == hinted; });
    const int  n_units   = int(successor->second->host->units.size());
    for (int unit = 0; unit < n_units; unit++) {
        if (residency.request(hinted, unit, distances, outlook(hinted, unit), true, joining)) continue;
        if (joining == Residency::Joining::none) return;   // there may be room yet
        break;
    }
    hint_done = {running, at_work, hinted, residency.changes()};
}

}  // namespace agentmux
