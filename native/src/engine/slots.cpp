#include "engine/slots.h"

#include "base/clock.h"

#include <algorithm>

namespace agentmux {

namespace {

int common_prefix(const std::vector<llama_token> & tokens, const Turn & turn) {
    const int most = std::min(int(tokens.size()), turn.size());
    int       n    = 0;
    while (n < most && tokens[size_t(n)] == turn.at(n)) n++;
    return n;
}

}  // namespace

int Slots::active() const {
    return int(std::count_if(slots.begin(), slots.end(), [](const Slot & slot) { return slot.turn != nullptr; }));
}

std::optional<int> Slots::of(uint64_t turn) const {
    for (int slot = 0; slot < size(); slot++) {
        if (slots[size_t(slot)].turn && slots[size_t(slot)].turn->request.turn == turn) return slot;
    }
    return std::nullopt;
}

// The slot that has its KV cache, else one that has none, else the one whose session was used longest ago.
std::optional<int> Slots::choose(const Turn & turn) const {
    const std::string  name = turn.kv_name();
    std::optional<int> best;
    for (int i = 0; i < size(); i++) {
        const Slot & slot = slots[size_t(i)];
        if (slot.turn && slot.turn->kv_name() == name) return std::nullopt;
        if (slot.turn) continue;
        if (slot.kept == name) return i;
        const auto rank = [](const Slot & s) { return s.kept.empty() ? -1.0 : s.last_used_s; };
        if (!best || rank(slot) < rank(slots[size_t(*best)])) best = i;
    }
    return best;
}

bool Slots::admit(std::unique_ptr<Turn> & turn, Decoder & decoder) {
    const std::optional<int> chosen = choose(*turn);
    if (!chosen) return false;
    Slot & slot = slots[size_t(*chosen)];
    if (slot.kept != turn->kv_name()) fetch(*chosen, *turn, decoder);
    // At least one token is computed, because its logits are wanted.
    const int reusable = std::min(common_prefix(slot.tokens, *turn), turn->size() - 1);
    turn->cached       = decoder.keep_prefix(*chosen, int(slot.tokens.size()), reusable);
    if (!turn->started) turn->stats.reused_tokens = turn->cached;
    if (turn->cached > 0) {
        n_hits++;
        n_reused_tokens += uint64_t(turn->cached);
    }
    slot.kept.clear();
    slot.tokens.clear();
    slot.turn = std::move(turn);
    count();
    return true;
}

// What comes is taken out of the store before what goes is put there: where memory is short, it would be the one to go.
void Slots::fetch(int slot, const Turn & turn, Decoder & decoder) {
    std::optional<StoredSession> stored = store.take({runner, turn.kv_name()});
    store_slot(slot, decoder);
    if (!stored && !turn.request.fork.empty() && copy_from_slot(slot, turn.request.fork, decoder)) return;
    const StoredSession * source = stored ? &*stored : turn.request.fork.empty() ? nullptr : store.find({runner, turn.request.fork});
    if (source && decoder.load(slot, source->state())) slots[size_t(slot)].tokens = source->tokens();
}

bool Slots::copy_from_slot(int slot, const std::string & from, Decoder & decoder) {
    for (int i = 0; i < size(); i++) {
        const Slot & other = slots[size_t(i)];
        if ((other.turn ? other.turn->kv_name() : other.kept) != from) continue;
        if (!copy_slot(i, slot, decoder)) return false;
        slots[size_t(slot)].tokens = other.turn ? other.turn->cached_tokens() : other.tokens;
        return true;
    }
    return false;
}

// By way of host memory where slots share none; false where there is no room, and the fork is computed.
bool Slots::copy_slot(int from, int to, Decoder & decoder) {
    if (decoder.shares_cells()) {
        decoder.share(from, to);
        return true;
    }
    const size_t bytes = decoder.state_bytes(from);
    auto         block = store.scratch(bytes);
    return block && decoder.save(from, {block->data(), bytes}) && decoder.load(to, {block->data(), bytes});
}

std::unique_ptr<Turn> Slots::release(int index, bool keep, Decoder & decoder) {
    Slot & slot = slots[size_t(index)];
    auto   turn = std::move(slot.turn);
    if (keep && turn->cached > 0) {
        slot.kept        = turn->kv_name();
        slot.tokens      = turn->cached_tokens();
        slot.last_used_s = now_s();
    } else {
        empty(index, decoder);
        if (!keep) store.drop({runner, turn->kv_name()});
    }
    count();
    return turn;
}

void Slots::empty(int index, Decoder & decoder) {
    if (decoder.is_open()) decoder.clear(index);
    slots[size_t(index)].kept.clear();
    slots[size_t(index)].tokens.clear();
}

void Slots::store_slot(int index, Decoder & decoder) {
    Slot & slot = slots[size_t(index)];
    if (!slot.kept.empty()) put(index, slot.kept, slot.tokens, slot.last_used_s, decoder);
    empty(index, decoder);
}

void Slots::put(int index, const std::string & name, const std::vector<llama_token> & tokens, double last_used_s, Decoder & decoder) {
    const auto write = [&](std::span<uint8_t> to) { return decoder.save(index, to); };
    store.put({runner, name}, tokens, last_used_s, decoder.state_bytes(index), write);
}

void Slots::store_all(Decoder & decoder) {
    for (int i = 0; i < size(); i++) {
        Slot & slot = slots[size_t(i)];
        if (slot.turn && slot.turn->cached > 0) {
            put(i, slot.turn->kv_name(), slot.turn->cached_tokens(), now_s(), decoder);
            slot.turn->cached = 0;
        } else if (!slot.turn) {
            store_slot(i, decoder);
        }
    }
    count();
}

void Slots::restore_active(Decoder & decoder) {
    for (int i = 0; i < size(); i++) {
        Turn * turn = slots[size_t(i)].turn.get();
        if (!turn) continue;
        const auto stored = store.take({runner, turn->kv_name()});
        if (stored && decoder.load(i, stored->state())) turn->cached = int(stored->n_tokens);
    }
}

size_t Slots::largest_kept_bytes(Decoder & decoder) const {
    size_t largest = 0;
    for (int i = 0; i < size(); i++) {
        const Slot & slot = slots[size_t(i)];
        if (decoder.is_open() && !slot.kept.empty()) largest = std::max(largest, SessionStore::bytes_for(slot.tokens.size(), decoder.state_bytes(i)));
    }
    return largest;
}

void Slots::forget(const std::string & session, Decoder & decoder) {
    for (int i = 0; i < size(); i++) {
        if (!slots[size_t(i)].turn && slots[size_t(i)].kept == session) empty(i, decoder);
    }
    store.drop({runner, session});
    count();
}

void Slots::count() {
    n_kept = int(std::count_if(slots.begin(), slots.end(), [](const Slot & slot) { return !slot.kept.empty(); }));
}

}  // namespace agentmux
