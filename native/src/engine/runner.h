// One loaded model with its slots: what a step is.
#pragma once

#include "base/error.h"
#include "engine/event_queue.h"
#include "engine/turn.h"
#include "host/host_model.h"
#include "kv/decoder.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>

namespace agentmux {

// How a turn ends that never had a slot.
Event cancelled_unstarted(const Turn & turn);

class Runner {
  public:
    Runner(HostModel host, ModelId id, const LoadSpec & spec, EventQueue & events, bool hash_logits);

    // Creates the context; see Decoder. The weights must lie where they will be computed.
    void make_context(const Device & device, Residency & residency, const Residency::Distance & distances, int n_threads);

    const LoadSpec  spec;
    const ModelId   id;
    const HostModel host;
    const size_t    weight_bytes;   // of all units
    Footprint       footprint;

    Decoder & decoder() { return *the_decoder; }
    const llama_vocab * vocab() const { return llama_model_get_vocab(host.model.get()); }

    // Any thread: text to tokens, checked against vocabulary and context. Throws request_invalid, context_overflow.
    std::vector<llama_token> tokenize(const TurnRequest & request) const;

    // Engine thread only, from here on.
    void enqueue(std::unique_ptr<Turn> turn);
    // The turn ends as cancelled; false where it is not here.
    bool cancel(uint64_t turn);
    void cancel_all();
    bool has_work() const { return !waiting.empty() || active() > 0; }
    int  active() const;
    // When the oldest waiting turn was submitted; nothing where none waits.
    std::optional<double> oldest_waiting_s() const;
    // Waiting turns submitted before `limit_s` take free slots.
    void fill_slots(double limit_s, bool switched, uint64_t uploaded_bytes);
    // One llama_decode for all active slots; uploaded_bytes is this model's counter, read when a turn ends.
    void step(const Residency & residency);
    // Every active turn fails.
    void fail_active(const Error & error);

    std::atomic<int> n_active = 0, n_waiting = 0;   // for snapshots

  private:
    struct Span {   // a slot's part of the batch
        int slot, n_tokens;
        int output = -1;   // index in the batch whose logits are wanted
    };

    std::vector<Span> compose(std::vector<PassToken> & batch) const;
    void              advance_turn(const Span & span);
    void              accept(int slot, llama_token token, const float * logits);
    void              show(Turn & turn, const std::string & text);
    void              finish(int slot, const std::string & reason);
    void              fail(int slot, const Error & error);
    void              free_slot(int slot);
    void              count();
    int               batch_tokens() const { return std::min(spec.batch_tokens, spec.context_tokens); }
    std::string       piece(llama_token token) const;

    EventQueue &                       events;
    const bool                         hash_logits;
    std::unique_ptr<Decoder>           the_decoder;
    std::deque<std::unique_ptr<Turn>>  waiting;
    std::vector<std::unique_ptr<Turn>> slots;   // [slot], null where free
    uint64_t                           uploaded = 0;
};

}  // namespace agentmux
