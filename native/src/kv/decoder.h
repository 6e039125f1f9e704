// One model's llama_context, decoding with its units paged.
//
// llama.cpp asks, node by node and before computing, whether to stop after a node. Where the next node needs a unit that
// is not there yet, the answer is yes: llama.cpp computes up to there, and we wait for the unit before it goes on. Which
// node needs what is known from an earlier pass of the same shape. A stop just before a unit's first use never falls
// inside a fused group of operations, so results are the same bit for bit; a resident model is never stopped.
//
// A pass of a shape not seen before follows the plan of a similar one and checks it at each node. Should the graph differ
// just where a unit is missing, the pass is void: the arena is filled with zeros (so that nothing computes on garbage
// that could hold a NaN), the rest of the graph is watched, the KV cache is put back, and the pass is done again.
#pragma once

#include "device/kept_backend.h"
#include "host/host_model.h"
#include "kv/known_plans.h"
#include "kv/oversize.h"
#include "residency/residency.h"

#include <llama-cpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace agentmux {

struct ContextShape {
    int context_tokens = 0;   // of each slot
    int slots          = 1;
    int batch_tokens   = 256;
    int n_threads      = 1;
    Oversize oversize  = Oversize::automatic;
};

class Decoder {
  public:
    // No context yet. `distances` is how far every model's units are from use while this model runs.
    // `backend`: what its contexts compute with, those of other models too.
    Decoder(const HostModel & host, ModelId model, const Device & device, KeptBackend & backend, Residency & residency,
            const Residency::Distance & distances, const ContextShape & shape);

    // Creates the context. The model's weights must lie where they will be computed (in a buffer of the device).
    // watched: llama.cpp can ask at each node, so that units may come and go; without it the whole model must be resident
    // in every pass. Passes in which a watched model is resident and stays where it was are not asked about either.
    // Throws Error(never_fits) where the device has no room for it.
    void open(bool watched);
    void close() { context.reset(); }
    bool is_open() const { return context != nullptr; }
    bool is_watched() const { return watched; }

    // Learns the graphs of one token, of one token in each slot and of a chunk of a prompt, with whatever the weights
    // hold now (zeros): results are thrown away. On a device it also takes what the backend allocates on first use.
    // The context must be watched.
    void learn();

    // Computes a batch; logits(i) is then valid for tokens with output. Returns the seconds waited for uploads.
    // meanwhile: done while the device computes a pass that was queued at once; it must leave this model's units where
    // they are. Not done in other passes. Throws Error(engine) where llama.cpp fails.
    double decode(const std::vector<PassToken> & tokens, const std::function<void()> & meanwhile = nullptr);

    // [vocabulary] of the i-th token of the last batch.
    const float * logits(int i) { return llama_get_logits_ith(context.get(), int32_t(pass.place_of[size_t(i)])); }

    // ---- the KV cache (or whatever memory the architecture has) of a slot
    void clear(int slot) { llama_memory_seq_rm(llama_get_memory(context.get()), slot, -1, -1); }
    // Cuts the slot, which holds `n_cached` tokens, to its first `n_tokens`; returns how many are left: 0 where this
    // memory cannot be cut (recurrent, hybrid, sliding window).
    int  keep_prefix(int slot, int n_cached, int n_tokens);
    // Whether all slots' tokens lie among each other, so that several slots can share one. If not, each slot has a stretch
    // of its own, and attends over no more than that.
    bool shares_cells() const { return !separate; }
    // Both slots then share what `from` holds; only where cells are shared.
    void share(int from, int to);
    // What the slot holds, copied straight from the device to where it is to lie, which is of state_bytes(slot); false
    // where llama.cpp cannot.
    size_t state_bytes(int slot) { return llama_state_seq_get_size(context.get(), slot); }
    bool   save(int slot, std::span<uint8_t> to);
    // False where the state does not fit this context: the slot is empty then.
    bool load(int slot, std::span<const uint8_t> state);

    // Bytes that the largest node of any plan needs at once.
    size_t min_arena_bytes() const;
    // Far or near in this model's own future, for choosing what gives way; the model must be the one that runs.
    uint64_t distance(int unit) const;
    // Passes that were void and done again, because a graph was not as predicted where a unit was missing.
    uint64_t repeated_passes() const { return n_repeated; }

    // What one more token of one sequence adds to a saved state; 0 where the memory does not grow with tokens.
    size_t kv_bytes_per_token() const { return token_bytes; }

  private:
    enum class Mode { resident, paged, blind, voided, learning };

    static bool on_node_c(ggml_tensor * node, bool ask, void * user);
    bool        on_node(ggml_tensor * node, bool ask);
    bool        ask_after(const NodeUses & uses);
    NodeUses    uses_of(const ggml_tensor * node) const;
    bool        missing(const NodeUses & uses) const;
    void        advance();
    bool        stays_complete() const;
    bool        request_from_passing(int unit, Residency::Joining joining);
    void        void_pass();
    void        run(const std::vector<PassToken> & tokens, const std::function<void()> & meanwhile = nullptr);
    void        paged_pass(const std::vector<PassToken> & tokens);
    void        arrange(const std::vector<PassToken> & tokens);
    struct FillersTakenBack;

    using Saved = std::map<int, std::vector<uint8_t>>;   // [slot] -> state
    Saved    save_slots(const std::vector<PassToken> & tokens);
    void     restore_slots(const std::vector<PassToken> & tokens, const Saved & saved);
    // Whether graphs must be planned anew.
    bool     choose_device(int n_tokens);
    bool     streaming() const { return how == Oversize::stream && weight_bytes > residency.arena_bytes(); }
    void     resident_pass(const std::vector<PassToken> & tokens, const std::function<void()> & meanwhile);
    // Has llama.cpp plan anew; setting no adapter, as before, does nothing else.
    void     forget_graphs() { llama_set_adapter_cvec(context.get(), nullptr, 0, 0, 0, 0); }

    const HostModel &   host;
    const ModelId       model;
    const bool          on_device;
    KeptBackend &       backend;
    Residency &         residency;
    const Residency::Distance distances;
    const ContextShape  shape;
    const int           learn_tokens;
    const bool          cannot_cut;   // memory that cannot be cut at a token: recurrent, hybrid, sliding window
    const bool          separate;     // each slot has a stretch of the KV cache of its own
    const size_t        weight_bytes;
    KnownPlans          plans;
    llama_batch         batch;
    Arrangement         pass;         // the batch as llama.cpp gets it
    llama_context_ptr   context;
    bool                watched = false;
    std::optional<uint64_t> graph_moves;   // Residency::moves after the last pass in this context
    std::vector<bool>   planned;   // [unit] whether the graphs are planned for the CPU to compute it
    OversizePolicy      oversize;
    std::vector<bool>   passing;        // [unit] streamed in each pass, where the model exceeds the arena and is streamed
    size_t              passing_bytes = 0;
    size_t              passing_in = 0; // the arena's bytes that they were chosen for
    std::vector<bool>   turns;          // [node] of a pass that streams: see turnovers
    KnownPlans::Plan    turns_of;   // the plan and the passing units that they were found for; null: anew
    Oversize            how = Oversize::stream;   // of the pass now running, where the model exceeds the arena

    KnownPlans::Plan        plan;    // of the pass now running
    std::vector<NodeUses>   seen;    // [node] of the pass now running
    Mode                                            mode = Mode::resident;
    int                                             node = -1;
    size_t                                          token_bytes = 0;
    double                                          waited_s = 0;
    std::atomic<uint64_t>                           n_repeated = 0;

    struct BatchFree {
        llama_batch & batch;
        ~BatchFree() { llama_batch_free(batch); }
    } batch_free{batch};
};

}  // namespace agentmux
