// One loaded model with its slots: what a step is.
#pragma once

#include "base/error.h"
#include "base/helpers.h"
#include "engine/event_queue.h"
#include "engine/slots.h"
#include "host/host_model.h"

#include <atomic>
#include <deque>
#include <memory>
#include <optional>

namespace agentmux {

// How a turn ends that never had a slot.
Event cancelled_unstarted(const Turn & turn);

class Runner {
  public:
    // host_id: of the model in the arena; several runners may share one.
    Runner(std::shared_ptr<const HostModel> host, ModelId host_id, int id, const LoadSpec & spec, EventQueue & events, SessionStore & store,
           Helpers & helpers, bool hash_logits);

    void make_decoder(const Device & device, KeptBackend & backend, Residency & residency, const Residency::Distance & distances, int n_threads,
                      Oversize oversize);

    const LoadSpec                         spec;
    const std::shared_ptr<const HostModel> host;
    const ModelId                          host_id;
    const int                              id;
    const size_t                           weight_bytes;   // of all units
    const std::vector<llama_token>         ends;           // of generation; looked for once, not for each turn
    Footprint                              footprint;

    Decoder &       decoder() { return *the_decoder; }
    const Decoder & decoder() const { return *the_decoder; }
    const Slots &   slots() const { return the_slots; }
    const llama_vocab * vocab() const { return llama_model_get_vocab(host->model.get()); }

    // Any thread: text to tokens, checked against vocabulary and context. Throws request_invalid, context_overflow.
    std::vector<llama_token> tokenize(const TurnRequest & request) const;

    // Engine thread only, from here on.
    // Opens the context, watched or not, with the KV caches of the turns in the slots; closes it with all KV caches saved.
    void open(bool watched);
    void close();
    void drop_context();   // with all that is in it
    void enqueue(std::unique_ptr<Turn> turn);
    // The turn ends as cancelled; false where it is not here.
    bool cancel(uint64_t turn);
    void cancel_all();
    // The turn leaves its slot and waits until it is resumed; what it has in the KV cache is kept.
    bool park(uint64_t turn);
    bool resume(uint64_t turn);
    void forget(const std::string & session) { the_slots.forget(session, *the_decoder); }
    bool has_work() const { return !waiting.empty() || active() > 0; }
    int  active() const { return the_slots.active(); }
    // Of the largest session that stays in a slot after its turn; 0 where none does.
    size_t largest_kept_bytes() const { return the_slots.largest_kept_bytes(*the_decoder); }
    // When the oldest waiting turn was submitted; nothing where none waits.
    std::optional<double> oldest_waiting_s() const;
    // Since when it wants to run: its active turns since its last step, else its oldest waiting turn.
    std::optional<double> wants_since_s() const;
    // Waiting turns submitted before `limit_s` take free slots. The context must be open.
    void fill_slots(double limit_s, bool switched, uint64_t uploaded_bytes);
    // One llama_decode for all active slots; uploaded_bytes is this model's counter, read when a turn ends.
    void step(const Residency & residency, const std::function<void()> & meanwhile);
    // Every active turn fails; where none was active, the one that would have been next, so that nothing is tried for ever.
    void fail_step(const Error & error);

    std::atomic<int>    n_active = 0, n_waiting = 0;   // for snapshots
    std::atomic<bool>   has_context = false;
    double              last_step_s = 0;

  private:
    struct Span {   // a slot's part of the batch
        int  slot, n_tokens;
        bool decoding;
        int  output = -1;   // index in the batch whose logits are wanted
    };

    std::vector<Span> compose(std::vector<PassToken> & batch) const;
    int               room_for_gaps() const;
    void              add_prefill(int slot, int most, std::vector<PassToken> & batch, std::vector<Span> & spans) const;
    struct Choice {   // of a slot's next token
        int                  slot;
        const float *        logits;   // [vocabulary]
        std::vector<PartPeak> peaks{};
        llama_token          token = 0;
        std::optional<Error> error{};
    };

    void              advance_turn(const Span & span);
    std::vector<Choice> choose_tokens(const std::vector<Span> & spans);
    void              choose(Choice & choice) const;
    void              accept(int slot, llama_token token, const float * logits);
    void              show(Turn & turn, const std::string & text);
    void              finish(int slot, const std::string & reason);
    void              push_finished(Turn & turn, const std::string & reason);
    void              fail(int slot, const Error & error);
    void              push_failed(const Turn & turn, const Error & error);
    void              count();
    int               batch_tokens() const { return std::min(spec.batch_tokens, spec.context_tokens); }
    std::string       piece(llama_token token, bool special) const;

    EventQueue &                       events;
    Helpers &                          helpers;
    const bool                         hash_logits;
    Slots                              the_slots;
    std::unique_ptr<Decoder>           the_decoder;
    std::deque<std::unique_ptr<Turn>>  waiting;
    std::vector<std::unique_ptr<Turn>> parked;
    uint64_t                           uploaded = 0;
};

}  // namespace agentmux
