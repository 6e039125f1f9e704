// Sessions that are away from the device: their tokens and what llama.cpp needs to go on with them, in host memory.
#pragma once

#include "host/block_pool.h"

#include <llama.h>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace agentmux {

// One block holds both: the tokens whose KV the state holds, then the state.
struct StoredSession {
    BlockPool::Block block;
    size_t           n_tokens;
    double           last_used_s;

    std::vector<llama_token> tokens() const;
    std::span<const uint8_t> state() const { return {block.data() + n_tokens * sizeof(llama_token), block.size() - n_tokens * sizeof(llama_token)}; }
};

struct SessionCounters {
    uint64_t sessions = 0, bytes = 0;                       // here now
    uint64_t saved_bytes = 0, restored_bytes = 0, dropped = 0;   // since the start
};

// Owned by the engine thread; counters and held_bytes may be read from anywhere.
class SessionStore {
  public:
    using Key = std::pair<int, std::string>;   // runner, session
    // Writes the state to where it is to lie; false where it cannot.
    using Write = std::function<bool(std::span<uint8_t> to)>;

    SessionStore(HostBudget & budget, BlockPool::Allocate allocate) : pool(budget, std::move(allocate)) {}

    // Keeps the session; the least recently used ones make room for it. Dropped where even so there is none.
    void put(const Key & key, const std::vector<llama_token> & tokens, double last_used_s, size_t state_bytes, const Write & write);
    std::optional<StoredSession> take(const Key & key);
    // Stays here; null where it is not.
    const StoredSession * find(const Key & key) const;
    void drop(const Key & key);
    void drop_all_of(int runner);

    // What a session takes here.
    static size_t bytes_for(size_t n_tokens, size_t state_bytes) { return n_tokens * sizeof(llama_token) + state_bytes; }
    // Gets memory for a session of that size before one comes, once any has; false where there was nothing to do.
    bool prepare(size_t bytes);
    // Memory for a copy on its way from slot to slot; nothing where there is no room beside the sessions.
    std::optional<BlockPool::Block> scratch(size_t bytes) { return pool.take(bytes); }
    // Memory that no session lies in is free for others.
    void give_back_unused() { pool.give_back_unused(); }

    SessionCounters counters() const;
    uint64_t        held_bytes() const { return pool.held_bytes(); }   // of memory, whether sessions lie in it or not

  private:
    using Sessions = std::map<Key, StoredSession>;

    void erase(Sessions::iterator session);
    void count_dropped();
    bool could_fit(size_t bytes) const;
    std::optional<BlockPool::Block> make_room(size_t bytes);

    BlockPool          pool;
    Sessions           sessions;
    mutable std::mutex mutex;   // guards everything below
    SessionCounters    counts;
};

}  // namespace agentmux
