// The engine's memory: files in host memory, contexts and the arena on the device, all within one budget.
#include "base/error.h"
#include "engine/engine.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

namespace agentmux {

namespace {

// Backends take a little more when they first see a new kind of work.
constexpr uint64_t device_margin_bytes = 96ull << 20;
// Contexts beyond the largest get a quarter of the budget at most: the arena serves all models, a context one.
constexpr uint64_t context_share = 4;

struct Loading {
    explicit Loading(std::atomic<int> & n) : n(n) { n++; }
    ~Loading() { n--; }
    Loading(const Loading &)             = delete;
    Loading & operator=(const Loading &) = delete;

    std::atomic<int> & n;
};

std::string identity(const std::string & path) {
    struct stat s {};
    if (stat(path.c_str(), &s) != 0) return path;
    return std::to_string(s.st_dev) + ":" + std::to_string(s.st_ino) + ":" + std::to_string(s.st_size) + ":" + std::to_string(s.st_mtim.tv_sec) + "." +
           std::to_string(s.st_mtim.tv_nsec);
}

}  // namespace

// The file in host memory: the one that is there already, or loaded now, on the caller's thread.
std::pair<std::shared_ptr<HostModel>, ModelId> Engine::hold(const LoadSpec & spec) {
    const std::string file = identity(spec.path);
    std::erase_if(hosts, [](const auto & entry) { return entry.second.model.expired(); });
    if (const auto found = hosts.find(file); found != hosts.end()) {
        if (auto host = found->second.model.lock()) return {host, found->second.id};
    }
    HostOptions options;
    options.n_threads  = n_threads;
    options.vet        = config.vet;
    options.room_bytes = config.arena_bytes && budget_bytes ? std::min<uint64_t>(config.arena_bytes, budget_bytes) : config.arena_bytes + budget_bytes;
    options.progress   = [&](uint64_t done, uint64_t total) {
        Event event{.kind = Event::Kind::loading};
        event.text  = spec.model;
        event.done  = done;
        event.total = total;
        events.push(std::move(event));
    };
    options.on_device_thread = [&](const std::function<void()> & use) { run_on_engine_thread(use); };
    const Loading loading(n_loading);   // weights come first: until they are there no memory is sought for sessions
    run_on_engine_thread([&] { sessions.give_back_unused(); });
    auto host                = load_host_model(spec.path, device, backend, host_budget, options);
    hosts[file]              = {next_host_id, host};
    return {host, next_host_id++};
}

// ---- on the engine thread -------------------------------------------------------------------------------------------

void Engine::install(const std::shared_ptr<Runner> & runner) {
    clear_device();
    Runners models = runners;
    models.emplace(runner->id, runner);
    runner->make_decoder(device, backend, residency, distances, n_threads, config.oversize);
    {
        std::vector<Weight> weights;
        for (const Unit & unit : runner->host->units) weights.insert(weights.end(), unit.weights.begin(), unit.weights.end());
        const BufferPtr zeros = show_on_zeros(weights, device);
        if (!is_held(runner->host_id)) residency.add(runner->host_id, runner->host->units);
        runner->open(true);
        runner->decoder().learn();
    }
    const uint64_t used_open = device.used_bytes();
    runner->close();
    // What a context's end frees; what it leaves (its backend's own memory) is the engine's until the model goes. Others
    // may have taken or freed memory meanwhile.
    const uint64_t used_closed = device.used_bytes();
    runner->footprint          = measure(*runner, used_open > used_closed ? used_open - used_closed : 0);
    const size_t arena_bytes = arena_for(models);
    require_room(models, arena_bytes);
    make_arena(arena_bytes, models);
    {
        std::lock_guard lock(mutex);
        runners = std::move(models);
    }
    open_context(*runner);   // as its first turn wants it
    std::lock_guard lock(mutex);
    names[runner->spec.model] = runner->id;   // from here on it can be found
}

// What is resident now can be uploaded again, and sessions wait in host memory: with contexts and arena gone, the driver's
// figure is what stays on the device for good.
void Engine::clear_device() {
    for (auto & [_, runner] : runners) runner->close();
    residency.resize(0);
}

// Whether a loaded model computes with this file's units.
bool Engine::is_held(ModelId host_id) const {
    return std::any_of(runners.begin(), runners.end(), [&](const auto & entry) { return entry.second->host_id == host_id; });
}

// The model's turns end as cancelled, it goes with all its memory, and the others have what was its part of the arena.
void Engine::withdraw(std::shared_ptr<Runner> & runner) {
    runner->cancel_all();
    runner->drop_context();   // whoever else still holds the runner: its device memory goes now
    sessions.drop_all_of(runner->id);
    if (running == runner.get()) running = nullptr;
    if (hinted == runner->host_id) hinted = -1;
    {
        std::lock_guard lock(mutex);
        runners.erase(runner->id);
    }
    if (!is_held(runner->host_id)) residency.remove(runner->host_id);
    runner.reset();
    clear_device();
    backend.let_go();   // with the working memory that it keeps: no context is open
    make_arena(arena_for(runners), runners);
}

// ---- contexts -------------------------------------------------------------------------------------------------------

// Bytes that contexts may take together.
uint64_t Engine::context_allowance(const Runners & models) const {
    std::vector<uint64_t> bytes;
    for (const auto & [_, runner] : models) bytes.push_back(runner->footprint.context_bytes);
    std::sort(bytes.rbegin(), bytes.rend());
    const size_t most = config.contexts > 0 ? std::min(bytes.size(), size_t(config.contexts)) : bytes.size();
    uint64_t     sum  = 0;
    for (size_t i = 0; i < most; i++) {
        if (i > 0 && budget_bytes && sum + bytes[i] > budget_bytes / context_share) break;
        sum += bytes[i];
    }
    return sum;
}

// Whether the contexts of all models that have work may be open at once: otherwise each step would move KV caches.
bool Engine::contexts_fit_together() const {
    uint64_t bytes = 0;
    int      n     = 0;
    for (const auto & [_, runner] : runners) {
        if (!runner->has_work()) continue;
        bytes += runner->footprint.context_bytes;
        n++;
    }
    return bytes <= context_allowance(runners) && (config.contexts == 0 || n <= config.contexts);
}

// Closes contexts, the one used longest ago first and those with turns in their slots last, until there is room for
// `opening`'s.
void Engine::close_contexts_for(const Runner & opening) {
    const uint64_t allowance = context_allowance(runners);
    while (true) {
        uint64_t open_bytes = opening.footprint.context_bytes;
        int      n_open     = 1;
        Runner * victim     = nullptr;
        for (const auto & [_, runner] : runners) {
            if (!runner->has_context || runner.get() == &opening) continue;
            open_bytes += runner->footprint.context_bytes;
            n_open++;
            const auto value = [](const Runner & r) { return std::make_pair(r.active() > 0, r.last_step_s); };
            if (!victim || value(*runner) < value(*victim)) victim = runner.get();
        }
        const bool too_many = config.contexts > 0 && n_open > config.contexts;
        if (!victim || (open_bytes <= allowance && !too_many)) return;
        victim->close();
    }
}

void Engine::open_context(Runner & runner) {
    if (!in_place && residency.arena_bytes() < runner.footprint.min_arena_bytes) {
        throw Error(ErrorCode::never_fits, "the device has no room for " + runner.spec.model + " any more",
                    {{"needed_bytes", double(runner.footprint.min_arena_bytes)}, {"available_bytes", double(residency.arena_bytes())}});
    }
    const bool watched = !all_fit();
    if (runner.has_context && runner.decoder().is_watched() == watched) return;
    runner.close();
    close_contexts_for(runner);
    runner.open(watched);
}

// With nothing to do: memory for the largest session that a slot may have to give up, because getting it takes as long as
// computing dozens of tokens. It is sought once sessions have left their slots.
void Engine::prepare_sessions() {
    if (n_loading > 0) return;
    size_t largest = 0;
    for (const auto & [_, runner] : runners) largest = std::max(largest, runner->largest_kept_bytes());
    sessions.prepare(largest);
}

// ---- the arena ------------------------------------------------------------------------------------------------------

size_t Engine::weight_bytes(const std::function<bool(const Runner &)> & which) const {
    std::set<ModelId> seen;
    size_t            sum = 0;
    for (const auto & [_, runner] : runners) {
        if (which(*runner) && seen.insert(runner->host_id).second) sum += runner->weight_bytes;
    }
    return sum;
}

bool Engine::all_fit() const {
    return in_place || weight_bytes([](const Runner &) { return true; }) <= residency.arena_bytes();
}

// On a device with its own memory: what the budget has to bear besides the arena. The device must be cleared.
uint64_t Engine::taken_bytes(const Runners & models) const {
    if (!device.has_own_memory()) return 0;
    return device.used_bytes() - others_bytes + context_allowance(models) + device_margin_bytes;
}

void Engine::make_arena(size_t arena_bytes, const Runners & models) {
    residency.resize(in_place ? 0 : arena_bytes);
    if (!in_place) return;
    for (const auto & [_, runner] : models) residency.compute_on_host(runner->host_id, std::vector<bool>(runner->host->units.size(), true));
}

size_t Engine::arena_for(const Runners & models) const {
    std::set<ModelId> seen;
    uint64_t          all = 0;
    for (const auto & [_, runner] : models) all += seen.insert(runner->host_id).second ? runner->weight_bytes : 0;
    if (config.arena_bytes) all = std::min<uint64_t>(all, config.arena_bytes);
    if (!device.has_own_memory()) return budget_bytes ? std::min<uint64_t>(all, budget_bytes) : all;
    const uint64_t taken = taken_bytes(models);
    return std::min<uint64_t>(all, budget_bytes > taken ? budget_bytes - taken : 0) / device.alignment() * device.alignment();
}

void Engine::require_room(const Runners & models, size_t arena_bytes) const {
    for (const auto & [_, runner] : models) {
        const uint64_t needed = runner->footprint.min_arena_bytes;
        if (needed <= arena_bytes) continue;
        const uint64_t taken = taken_bytes(models);
        throw Error(ErrorCode::never_fits,
                    runner->spec.model + " needs " + std::to_string(taken + needed) + " bytes on the device (its largest unit takes " +
                        std::to_string(needed) + "); the budget is " + std::to_string(budget_bytes),
                    {{"needed_bytes", double(taken + needed)},
                     {"unit_bytes", double(needed)},
                     {"available_bytes", double(arena_bytes)},
                     {"budget_bytes", double(budget_bytes)}});
    }
}

Footprint Engine::measure(Runner & runner, uint64_t context_bytes) const {
    const llama_model * model = runner.host->model.get();
    Footprint           f;
    f.model        = runner.spec.model;
    f.architecture = runner.host->file.architecture;
    for (const Unit & unit : runner.host->units) f.unit_bytes.push_back(unit.bytes);
    f.min_arena_bytes         = runner.decoder().min_arena_bytes();
    f.static_bytes            = runner.host->fixed_bytes;
    f.context_bytes           = context_bytes;
    f.kv_bytes_per_token      = runner.decoder().kv_bytes_per_token();
    f.host_bytes              = runner.host->host_bytes;
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
