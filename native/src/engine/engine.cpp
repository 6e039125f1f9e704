#include "engine/engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <sched.h>

#include <algorithm>
#include <future>
#include <limits>

namespace agentmux {

namespace {

// Backends take a little more when they first see a new kind of work.
constexpr uint64_t device_margin_bytes = 96ull << 20;
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
      budget_bytes(c.device_bytes ? c.device_bytes : default_budget(device)), residency(device, c.link_bytes_per_s, c.debug_poison),
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

Footprint Engine::load(const LoadSpec & spec) {
    require_positive("context_tokens", spec.context_tokens);
    require_positive("slots", spec.slots);
    require_positive("batch_tokens", spec.batch_tokens);
    reserve_name(spec.model);
    try {
        HostModel host = load_host_model(spec.path, device, n_threads, config.vet);
        require_positions(host.file, spec.context_tokens);
        Footprint footprint;
        run_on_engine_thread([&] {
            auto runner = std::make_shared<Runner>(std::move(host), next_id++, spec, events, config.debug_hash_logits);
            try {
                install(runner);
            } catch (...) {   // to the byte: the arena is made anew when the failed model's memory is free
                residency.remove(runner->id);
                runner.reset();
                residency.resize(arena_for(runners));
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
    run_on_engine_thread([&] {
        std::shared_ptr<Runner> runner = find(model);
        runner->cancel_all();
        residency.remove(runner->id);
        if (running == runner.get()) running = nullptr;
        if (hinted == runner->id) hinted = -1;
        {
            std::lock_guard lock(mutex);
            runners.erase(runner->id);
            names.erase(model);
        }
        runner.reset();   // its own memory first: the arena may have it
        residency.resize(arena_for(runners));
    });
}

void Engine::submit(const TurnRequest & request) {
    const std::shared_ptr<Runner> runner = find(request.model);
    if (request.max_tokens < 1) throw Error(ErrorCode::request_invalid, "max_tokens is " + std::to_string(request.max_tokens) + "; it must be at least 1");
    for (const std::string & stop : request.stop) {
        if (stop.empty()) throw Error(ErrorCode::request_invalid, "a stop string is empty");
    }
    auto turn = std::make_shared<std::unique_ptr<Turn>>(std::make_unique<Turn>(
        request, runner->tokenize(request), Sampler(runner->vocab(), request.sampling, request.grammar, request.ignore_eos)));
    post([this, runner, turn] {
        if (runners.count(runner->id)) {
            runner->enqueue(std::move(*turn));
        } else {   // unloaded in between
            events.push(cancelled_unstarted(**turn));
        }
    });
}

void Engine::cancel(uint64_t turn) {
    try {
        post([this, turn] {
            for (auto & [_, runner] : runners) {
                if (runner->cancel(turn)) return;
            }
        });
    } catch (const Error &) { /* closed: all turns have ended */ }
}

void Engine::prefetch(const std::string & model) {
    const std::shared_ptr<Runner> runner = find(model);
    post([this, runner] { hinted = runners.count(runner->id) ? runner->id : -1; });
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
    s.upload_bytes_per_s  = uploads.busy_s > 0 ? double(uploads.bytes) / uploads.busy_s : 0;
    s.evicted_units       = residency.evicted_units();
    s.upload_wait_s       = residency.upload_wait_s();
    s.steps               = n_steps;
    s.switches            = n_switches;
    for (const auto & [id, runner] : runners) {
        s.repeated_passes += runner->decoder().repeated_passes();
        s.models.push_back({runner->spec.model, residency.map_of(id), residency.resident_bytes(id), runner->n_active, runner->n_waiting});
    }
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
            wake.wait(lock, [&] { return stopping || !mailbox.empty() || busy(); });
            commands.swap(mailbox);
        }
        for (const Command & command : commands) command();
        commands.clear();
        if (std::lock_guard lock(mutex); stopping && mailbox.empty()) break;
        if (Runner * runner = choose()) step(*runner);
        hint();
    }
    for (auto & [_, runner] : runners) runner->cancel_all();
    residency.resize(0);
    Runners ended;   // freed here, on the thread that used them
    std::lock_guard lock(mutex);
    ended.swap(runners);
    names.clear();
}

// Models that fit into the arena together take turns step by step. Otherwise the model of the last step goes on while it
// has turns in slots, and then comes the one whose turn was submitted first.
Runner * Engine::choose() {
    if (fit_together()) {
        const auto has_work = [](const auto & entry) { return entry.second->has_work(); };
        auto       next     = std::find_if(running ? runners.upper_bound(running->id) : runners.begin(), runners.end(), has_work);
        if (next == runners.end()) next = std::find_if(runners.begin(), runners.end(), has_work);
        return next == runners.end() ? nullptr : next->second.get();
    }
    if (running && running->active() > 0) return running;
    Runner * oldest = nullptr;
    for (auto & [_, runner] : runners) {
        const auto since = runner->oldest_waiting_s();
        if (since && (!oldest || *since < *oldest->oldest_waiting_s())) oldest = runner.get();
    }
    return oldest;
}

bool Engine::fit_together() const {
    size_t needed = 0;
    for (const auto & [_, runner] : runners) {
        if (runner->has_work()) needed += runner->weight_bytes;
    }
    return needed <= residency.arena_bytes();
}

// Turns submitted after another model's oldest waiting turn do not overtake it, unless both models fit together.
double Engine::fill_limit_s(const Runner & runner) const {
    double limit = std::numeric_limits<double>::max();
    if (fit_together()) return limit;
    for (const auto & [_, other] : runners) {
        if (other.get() != &runner) limit = std::min(limit, other->oldest_waiting_s().value_or(limit));
    }
    return limit;
}

void Engine::step(Runner & runner) {
    const bool switched = running && running != &runner;
    if (switched) n_switches++;
    running = &runner;
    if (hinted == runner.id) hinted = -1;
    residency.promote(runner.id);
    runner.fill_slots(fill_limit_s(runner), switched, residency.uploads_of(runner.id));
    if (runner.active() == 0) return;
    try {
        runner.step(residency);
        n_steps++;
    } catch (const Error & e) {
        runner.fail_active(e);
    } catch (const std::exception & e) {
        runner.fail_active(Error(ErrorCode::engine, e.what()));
    }
}

NextUse Engine::outlook(ModelId model, int unit) const {
    if (running && running->id == model) return next_use(Rank::running, running->decoder().distance(unit));
    return next_use(model == hinted ? Rank::hinted : Rank::idle, uint64_t(unit) + 1);
}

// Uploads the successor, front first, into what is free and what is needed later still.
void Engine::hint() {
    if (hinted < 0) return;
    const int n_units = int(runners.at(hinted)->host.units.size());
    for (int unit = 0; unit < n_units; unit++) {
        if (!residency.request(hinted, unit, distances, outlook(hinted, unit), true)) return;
    }
}

// ---- loading, on the engine thread ----------------------------------------------------------------------------------

void Engine::install(const std::shared_ptr<Runner> & runner) {
    residency.resize(0);   // what is resident now can be uploaded again; the context comes first
    Runners models = runners;
    models.emplace(runner->id, runner);
    const uint64_t used_before = device.used_bytes();
    {
        const BufferPtr zeros = show_zeros(runner->host);
        residency.add(runner->id, runner->host.units);
        runner->make_context(device, residency, distances, n_threads);
    }
    runner->footprint        = measure(*runner, device.used_bytes() - used_before);
    const size_t arena_bytes = arena_for(models);
    require_room(models, arena_bytes);
    residency.resize(arena_bytes);
    std::lock_guard lock(mutex);
    runners                   = std::move(models);
    names[runner->spec.model] = runner->id;
}

// All of a model's paged tensors on one stretch of zeros: enough to make a context and to learn its graphs.
BufferPtr Engine::show_zeros(const HostModel & host) const {
    size_t largest = 0;
    for (const auto & [tensor, unit] : host.unit_of) largest = std::max(largest, device.tensor_bytes(tensor));
    BufferPtr zeros = allocate_weights(device, largest, "learning the graph");
    for (const Unit & unit : host.units) {
        for (const Weight & w : unit.weights) {
            w.tensor->buffer = zeros.get();
            w.tensor->data   = ggml_backend_buffer_get_base(zeros.get());
        }
    }
    return zeros;
}

size_t Engine::arena_for(const Runners & models) const {
    uint64_t all = 0;
    for (const auto & [_, runner] : models) all += runner->weight_bytes;
    if (config.arena_bytes) all = std::min<uint64_t>(all, config.arena_bytes);
    if (!device.has_own_memory()) return budget_bytes ? std::min<uint64_t>(all, budget_bytes) : all;
    const uint64_t taken = device.used_bytes() - others_bytes + device_margin_bytes;
    return std::min<uint64_t>(all, budget_bytes > taken ? budget_bytes - taken : 0) / device.alignment() * device.alignment();
}

void Engine::require_room(const Runners & models, size_t arena_bytes) const {
    for (const auto & [_, runner] : models) {
        const uint64_t needed = runner->footprint.min_arena_bytes;
        if (needed <= arena_bytes) continue;
        const uint64_t taken = device.has_own_memory() ? device.used_bytes() - others_bytes + device_margin_bytes : 0;
        throw Error(ErrorCode::never_fits,
                    runner->spec.model + " needs " + std::to_string(taken + needed) + " bytes on the device (its largest unit takes " +
                        std::to_string(needed) + "); the budget is " + std::to_string(budget_bytes),
                    {{"needed_bytes", double(taken + needed)}, {"available_bytes", double(arena_bytes)}, {"budget_bytes", double(budget_bytes)}});
    }
}

Footprint Engine::measure(Runner & runner, uint64_t context_bytes) const {
    const llama_model * model = runner.host.model.get();
    Footprint           f;
    f.model        = runner.spec.model;
    f.architecture = runner.host.file.architecture;
    for (const Unit & unit : runner.host.units) f.unit_bytes.push_back(unit.bytes);
    f.min_arena_bytes         = runner.decoder().min_arena_bytes();
    f.static_bytes            = runner.host.fixed_bytes;
    f.context_bytes           = context_bytes;
    f.kv_bytes_per_token      = runner.decoder().kv_bytes_per_token();
    f.host_bytes              = runner.host.host_bytes;
    f.context_tokens          = runner.spec.context_tokens;
    f.slots                   = runner.spec.slots;
    f.training_context_tokens = llama_model_n_ctx_train(model);
    const bool has_vocabulary = llama_vocab_type(runner.vocab()) != LLAMA_VOCAB_TYPE_NONE;
    f.vocabulary_tokens       = has_vocabulary ? llama_vocab_n_tokens(runner.vocab()) : 0;
    const char * chat         = llama_model_chat_template(model, nullptr);
    f.has_chat_template       = chat != nullptr;
    f.chat_template           = chat ? chat : "";
    const auto text           = [&](llama_token t) { return has_vocabulary && t >= 0 ? std::string(llama_vocab_get_text(runner.vocab(), t)) : ""; };
    f.bos_text                = text(llama_vocab_bos(runner.vocab()));
    f.eos_text                = text(llama_vocab_eos(runner.vocab()));
    return f;
}

}  // namespace agentmux
