// A model's slots: turns that are being decoded, and the KV caches that stay when a turn has ended or is parked.
//
// A slot is one sequence of the context. It keeps its session until another turn wants the slot; the session then goes to
// the store in host memory, and comes back into whatever slot its next turn gets.
#pragma once

#include "engine/turn.h"
#include "kv/decoder.h"
#include "kv/session_store.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace agentmux {

class Slots {
  public:
    Slots(int n, int runner, SessionStore & store) : runner(runner), store(store), slots(size_t(n)) {}

    int    size() const { return int(slots.size()); }
    Turn * turn(int slot) const { return slots[size_t(slot)].turn.get(); }
    int    active() const;
    // The slot of an active turn; nothing where it is not here.
    std::optional<int> of(uint64_t turn) const;

    // Gives the turn a slot, with as much of its sequence in the KV cache as there is; false where none is free or the
    // turn's session is in use by another turn (then `turn` is untouched). The context must be open.
    bool admit(std::unique_ptr<Turn> & turn, Decoder & decoder);
    // The turn leaves its slot. keep: its KV cache stays under its name.
    std::unique_ptr<Turn> release(int slot, bool keep, Decoder & decoder);
    // Before the context is closed: everything to host memory. Turns stay in their slots.
    void store_all(Decoder & decoder);
    // After it was opened again: what active turns had. What is lost is computed again.
    void restore_active(Decoder & decoder);
    // The session is not wanted any more, here or in the store.
    void forget(const std::string & session, Decoder & decoder);

    // What the largest session that stays in a slot without a turn would take in host memory.
    size_t largest_kept_bytes(Decoder & decoder) const;

    std::atomic<int>      n_kept = 0;
    std::atomic<uint64_t> n_hits = 0, n_reused_tokens = 0;

  private:
    struct Slot {
        std::unique_ptr<Turn>    turn;          // null: idle
        std::string              kept;          // idle: under which name a KV cache is kept here; empty: none
        std::vector<llama_token> tokens;        // idle: what it holds
        double                   last_used_s = 0;
    };

    std::optional<int> choose(const Turn & turn) const;
    void store_slot(int slot, Decoder & decoder);
    void put(int slot, const std::string & name, const std::vector<llama_token> & tokens, double last_used_s, Decoder & decoder);
    void fetch(int slot, const Turn & turn, Decoder & decoder);
    bool copy_from_slot(int slot, const std::string & from, Decoder & decoder);
    bool copy_slot(int from, int to, Decoder & decoder);
    void empty(int slot, Decoder & decoder);
    void count();

    const int         runner;
    SessionStore &    store;
    std::vector<Slot> slots;
};

}  // namespace agentmux
