#include "kv/decoder.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "kv/watch.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace agentmux {

namespace {

llama_context_params context_params(const ContextShape & shape, bool on_device, bool separate) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx                = uint32_t(shape.context_tokens) * uint32_t(shape.slots);
    params.n_seq_max            = uint32_t(shape.slots);
    params.n_batch = params.n_ubatch = uint32_t(shape.batch_tokens);
    params.n_outputs_max             = uint32_t(shape.slots);   // the logits of all others would only cost memory
    params.n_threads = params.n_threads_batch = shape.n_threads;
    params.kv_unified                         = !separate;
    params.offload_kqv                        = on_device;
    params.op_offload                         = false;   // weights move by plan, not behind our back
    params.no_perf                            = true;
    return params;
}

// Beyond any distance in nodes: what passes through the arena gives way before anything that stays.
constexpr uint64_t longest_distance = 1ull << 32;
// Queueing a recorded graph takes a tenth of this; recording one, several times as long, and nothing computes after it.
constexpr double   longest_queueing_s = 1e-3;
constexpr size_t   stop_bytes       = 4u << 20;   // a tenth of a millisecond at 40 GB/s

}  // namespace

Decoder::Decoder(const HostModel & host, ModelId model, const Device & device, KeptBackend & backend, Residency & residency,
                 const Residency::Distance & distances, const ContextShape & shape)
    : host(host), model(model), on_device(device.has_own_memory()), backend(backend), residency(residency), distances(distances), shape(shape),
      // On the CPU a long zero pass would only cost time; on a device it also warms up what real passes will use.
      learn_tokens(on_device ? shape.batch_tokens : std::min(shape.batch_tokens, 4)),
      cannot_cut(llama_model_is_recurrent(host.model.get()) || llama_model_is_hybrid(host.model.get()) || llama_model_n_swa(host.model.get()) > 0),
      separate(shape.slots > 1 && !cannot_cut), weight_bytes(total_bytes(host.units)), plans(separate, shape.batch_tokens, int(host.units.size())), batch(llama_batch_init(shape.batch_tokens, 0, 1)), oversize(shape.oversize) {}

void Decoder::open(bool watch) {
    const LogCapture     log;
    llama_context_params params = context_params(shape, on_device, separate);
    watched                     = watch;
    graph_moves                 = std::nullopt;
    planned.assign(host.units.size(), false);
    params.cb_eval              = watch ? on_node_c : nullptr;
    params.cb_eval_user_data    = this;
    const KeptBackend::Lending lending(backend);
    context.reset(llama_init_from_model(host.model.get(), params));
    if (!context) throw Error(ErrorCode::never_fits, "no context of " + std::to_string(params.n_ctx) + " tokens can be made: " + log.last_error());
}

// However the pass ends.
struct Decoder::FillersTakenBack {
    explicit FillersTakenBack(Decoder & decoder) : decoder(decoder) {}
    ~FillersTakenBack() {
        for (size_t i : decoder.pass.fillers) {
            const PassToken & filler = decoder.pass.tokens[i];
            llama_memory_seq_rm(llama_get_memory(decoder.context.get()), filler.slot, filler.position, -1);
        }
    }
    FillersTakenBack(const FillersTakenBack &)             = delete;
    FillersTakenBack & operator=(const FillersTakenBack &) = delete;

    Decoder & decoder;
};

void Decoder::arrange(const std::vector<PassToken> & tokens) {
    // Not llama.cpp's own length of a slot, which it rounds up: learnt positions end with the context.
    const auto free_position = [&](int slot) -> std::optional<llama_pos> {
        const llama_pos next = llama_memory_seq_pos_max(llama_get_memory(context.get()), slot) + 1;
        if (next >= llama_pos(shape.context_tokens)) return std::nullopt;
        return next;
    };
    const double pass_tokens = token_bytes > 0 ? double(weight_bytes) / double(token_bytes) : std::numeric_limits<double>::infinity();
    pass                     = separate ? by_slot(tokens, {size_t(shape.batch_tokens), pass_tokens, free_position}) : in_given_order(tokens);
}

void Decoder::learn() {
    std::vector<std::vector<PassToken>> passes(3);
    passes[0].push_back({0, 0, 0, true});
    for (int slot = 0; slot < shape.slots; slot++) passes[1].push_back({0, 0, slot, true});
    for (int i = 0; i < learn_tokens; i++) passes[2].push_back({0, i, 0, i + 1 == learn_tokens});
    size_t one_token_bytes = 0;
    for (const auto & tokens : passes) {
        if (plans.has(plans.shape_of(tokens))) continue;
        mode = Mode::learning;
        seen.clear();
        run(tokens);
        plans.add(plans.shape_of(tokens), seen);
        const size_t state_bytes = llama_state_seq_get_size(context.get(), 0);
        if (tokens.size() == 1) one_token_bytes = state_bytes;
        else if (&tokens == &passes.back()) token_bytes = (state_bytes - one_token_bytes) / (tokens.size() - 1);
        llama_memory_clear(llama_get_memory(context.get()), true);
    }
}

size_t Decoder::min_arena_bytes() const {
    std::vector<size_t> unit_bytes;
    for (const Unit & unit : host.units) unit_bytes.push_back(unit.bytes);
    return plans.largest_node(unit_bytes);
}

uint64_t Decoder::distance(int unit) const {
    const UsePlan & known    = plan ? *plan : plans.any();
    const uint64_t  own      = uint64_t(known.distance(unit, node + 1));
    const bool      in_use   = known.distance(unit, 0) <= node && own < uint64_t(known.size() - (node + 1));
    const bool      passes   = streaming() && !passing.empty() && passing[size_t(unit)] && !in_use;
    return passes ? own + longest_distance : own;
}

double Decoder::decode(const std::vector<PassToken> & given, const std::function<void()> & meanwhile) {
    arrange(given);
    const FillersTakenBack         taken_back(*this);
    const std::vector<PassToken> & tokens = pass.tokens;
    waited_s = 0;
    const double started   = now_s();
    bool         replanned = false;
    if (watched) {
        replanned = choose_device(int(tokens.size()));
    } else if (!residency.complete(model)) {
        std::vector<int> all(host.units.size());
        std::iota(all.begin(), all.end(), 0);
        waited_s = residency.require(model, all, distances);
    }
    if (!watched || residency.complete(model)) {
        resident_pass(tokens, meanwhile);
    } else {
        paged_pass(tokens);
    }
    graph_moves = residency.moves(model);
    // The CPU's own time: what it waited for was the rest of the model, which comes once.
    const double took = now_s() - started - (how == Oversize::host ? waited_s : 0);
    if (watched && weight_bytes > residency.arena_bytes()) oversize.note(how, int(tokens.size()), took, replanned);
    node = -1;
    return waited_s;
}

// Recorded graphs hold addresses, and a backend takes a graph that llama.cpp uses again for the one it recorded, unless
// the pass is watched: then it looks at each node. So the first pass after a move is watched, or gets new graphs.
void Decoder::resident_pass(const std::vector<PassToken> & tokens, const std::function<void()> & meanwhile) {
    mode             = Mode::resident;
    const bool moved = graph_moves && *graph_moves != residency.moves(model);
    if (watched) set_callback(context.get(), moved ? on_node_c : nullptr, this);
    else if (moved) forget_graphs();
    run(tokens, meanwhile);
}

// Where each unit is computed. A change of device needs new graphs, which a new reservation brings.
bool Decoder::choose_device(int n_tokens) {
    const size_t arena = residency.arena_bytes();
    if (passing_in != arena) {
        passing       = passing_units(host.units, arena, stop_bytes);
        passing_in    = arena;
        passing_bytes = 0;
        for (size_t i = 0; i < passing.size(); i++) passing_bytes += passing[i] ? host.units[i].bytes : 0;
        turns_of = nullptr;
    }
    if (weight_bytes > arena) how = oversize.choose(n_tokens, passing_bytes, residency.uploads().bytes_per_s());
    const bool left_to_host = weight_bytes > arena && how == Oversize::host;
    const auto units        = left_to_host ? beyond_arena(host.units, arena) : std::vector<bool>(host.units.size(), false);
    const bool replan       = units != planned;
    residency.compute_on_host(model, units);
    if (replan) forget_graphs();
    planned = units;
    return replan;
}

int Decoder::keep_prefix(int slot, int n_cached, int n_tokens) {
    if (n_tokens >= n_cached) return n_cached;
    if (!cannot_cut && n_tokens > 0 && llama_memory_seq_rm(llama_get_memory(context.get()), slot, n_tokens, -1)) return n_tokens;
    clear(slot);
    return 0;
}

void Decoder::share(int from, int to) {
    clear(to);
    llama_memory_seq_cp(llama_get_memory(context.get()), from, to, -1, -1);
}

bool Decoder::save(int slot, std::span<uint8_t> to) {
    const LogCapture log;
    return llama_state_seq_get_data(context.get(), to.data(), to.size(), slot) == to.size();
}

bool Decoder::load(int slot, std::span<const uint8_t> state) {
    const LogCapture log;
    clear(slot);
    if (!state.empty() && llama_state_seq_set_data(context.get(), state.data(), state.size(), slot) == state.size()) return true;
    clear(slot);
    return false;
}

void Decoder::paged_pass(const std::vector<PassToken> & tokens) {
    const KnownPlans::Shape key = plans.shape_of(tokens);
    const Saved             saved = !plans.has(key) && cannot_cut ? save_slots(tokens) : Saved();
    plan                          = plans.find(key);
    set_callback(context.get(), on_node_c, this);
    for (int attempt = 0;; attempt++) {
        mode = Mode::paged;
        node = -1;
        if (streaming() && turns_of != plan) {
            turns    = plans.turnovers_of(plan, passing);
            turns_of = plan;
        }
        seen.clear();
        advance();
        run(tokens);
        if (mode != Mode::voided) break;
        if (attempt == 1) throw Error(ErrorCode::engine, "llama.cpp built two different graphs for one batch");
        n_repeated++;
        restore_slots(tokens, saved);
        plan = plans.add(key, seen);
    }
    if (mode == Mode::paged && int(seen.size()) == plan->size()) plans.confirm(key, plan);
    else plan = plans.add(key, seen);
}

void Decoder::run(const std::vector<PassToken> & tokens, const std::function<void()> & meanwhile) {
    batch.n_tokens = int32_t(tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) {
        batch.token[i]     = tokens[i].token;
        batch.pos[i]       = tokens[i].position;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = tokens[i].slot;
        batch.logits[i]    = tokens[i].output;
    }
    const LogCapture log;
    const double     started = now_s();
    const int        failed  = llama_decode(context.get(), batch);
    if (meanwhile && failed == 0 && now_s() - started < longest_queueing_s) meanwhile();
    llama_synchronize(context.get());
    if (failed) throw Error(ErrorCode::engine, "llama_decode failed with " + std::to_string(failed) + ": " + log.last_error());
}

bool Decoder::on_node_c(ggml_tensor * node, bool ask, void * user) { return static_cast<Decoder *>(user)->on_node(node, ask); }

bool Decoder::on_node(ggml_tensor * tensor, bool ask) {
    if (mode == Mode::resident) return false;
    if (!ask) {   // computed up to here, and nothing is under way
        if (mode == Mode::paged) advance();
        return true;
    }
    node++;
    seen.push_back(uses_of(tensor));
    return ask_after(seen.back());
}

// Whether to stop after the node that uses these units.
bool Decoder::ask_after(const NodeUses & uses) {
    if (mode == Mode::learning || mode == Mode::voided) return false;
    if (mode == Mode::paged && (node >= plan->size() || plan->at(node) != uses)) mode = Mode::blind;
    if (mode == Mode::blind) {
        if (missing(uses)) void_pass();
        return false;
    }
    return node + 1 < plan->size() && ((streaming() && turns[size_t(node) + 1]) || missing(plan->at(node + 1)));
}

NodeUses Decoder::uses_of(const ggml_tensor * tensor) const {
    NodeUses uses;
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        for (const ggml_tensor * t = tensor->src[i]; t; t = t->view_src) {
            const auto found = host.unit_of.find(t);
            if (found != host.unit_of.end() && std::find(uses.begin(), uses.end(), found->second) == uses.end()) uses.push_back(found->second);
        }
    }
    return uses;
}

bool Decoder::missing(const NodeUses & uses) const {
    return std::any_of(uses.begin(), uses.end(), [&](int unit) { return !residency.ready(model, unit); });
}

// Nothing is computing: the next node gets its units, then as much of what follows as has room.
//
// Other models give way to all of it. Of this model's own units only one gives way for what lies ahead, one of those that
// pass through the arena in each pass: the others stay. Before a passing unit is used a second one cannot take its place,
// so there is one stop more after each of them (see turnovers).
void Decoder::advance() {
    const auto joining = stays_complete() ? Residency::Joining::all : Residency::Joining::needed;
    if (node + 1 < plan->size() && !plan->at(node + 1).empty()) waited_s += residency.require(model, plan->at(node + 1), distances, joining);
    bool may_take_own = true;
    for (int unit : plan->upcoming(node + 1)) {
        if (residency.request(model, unit, distances, latest(Rank::running), false)) continue;
        if (!may_take_own || !request_from_passing(unit, joining)) break;
        may_take_own = false;
    }
}

// Whether all that does not pass is there: from now on, pass by pass, the same happens.
bool Decoder::stays_complete() const {
    if (!streaming()) return false;
    for (size_t unit = 0; unit < passing.size(); unit++) {
        if (!passing[unit] && !residency.ready(model, int(unit))) return false;
    }
    return true;
}

// Only passing units give way, and only to what is needed sooner.
bool Decoder::request_from_passing(int unit, Residency::Joining joining) {
    if (!streaming()) return false;
    const int  due   = plan->distance(unit, node + 1);
    const auto after = [&](ModelId m, int other) {
        if (m != model) return distances(m, other);
        const int next = plan->distance(other, node + 1);
        return passing[size_t(other)] && next > due ? next_use(Rank::running, uint64_t(next)) : NextUse(0);
    };
    return residency.request(model, unit, after, 0, false, joining);
}

void Decoder::void_pass() {
    mode = Mode::voided;
    residency.clear();
}

Decoder::Saved Decoder::save_slots(const std::vector<PassToken> & tokens) {
    Saved saved;
    for (const PassToken & t : tokens) {
        if (saved.count(t.slot)) continue;
        std::vector<uint8_t> state(state_bytes(t.slot));
        if (save(t.slot, state)) saved[t.slot] = std::move(state);
    }
    return saved;
}

void Decoder::restore_slots(const std::vector<PassToken> & tokens, const Saved & saved) {
    std::map<int, llama_pos> first;
    for (const PassToken & t : tokens) first.emplace(t.slot, t.position);
    for (const auto & [slot, position] : first) {
        if (!cannot_cut) {
            llama_memory_seq_rm(llama_get_memory(context.get()), slot, position, -1);
        } else if (position == 0) {
            clear(slot);
        } else if (!saved.count(slot) || !load(slot, saved.at(slot))) {
            throw Error(ErrorCode::engine, "the memory of a sequence could not be put back");
        }
    }
}

}  // namespace agentmux
