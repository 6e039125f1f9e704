// Sessions that are away from the device: their tokens and what llama.cpp needs to go on with them, in host memory.
#pragma once

#include "host/host_budget.h"

#include <llama.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace agentmux {

struct StoredSession {
    std::vector<llama_token> tokens;   // whose KV the state holds
    std::vector<uint8_t>     state;
    double                   last_used_s = 0;
};

struct SessionCounters {
    uint64_t sessions = 0, bytes = 0;                       // here now
    uint64_t saved_bytes = 0, restored_bytes = 0, dropped = 0;   // since the start
};

// Owned by the engine thread; counters may be read from anywhere.
class SessionStore {
  public:
    using Key = std::pair<int, std::string>;   // runner, session

    explicit SessionStore(HostBudget & budget) : budget(budget) {}
    ~SessionStore();

    // Keeps the session; the least recently used ones make room for it. Dropped where even so there is none.
    void put(const Key & key, StoredSession session);
    std::optional<StoredSession> take(const Key & key);
    // Stays here; null where it is not.
    const StoredSession * find(const Key & key) const;
    void drop(const Key & key);
    void drop_all_of(int runner);

    SessionCounters counters() const;

  private:
    using Sessions = std::map<Key, StoredSession>;

    void unbook(uint64_t bytes);
    void erase(Sessions::iterator session);
    bool make_room(uint64_t bytes);

    HostBudget &       budget;
    mutable std::mutex mutex;   // guards everything below
    Sessions           sessions;
    SessionCounters    counts;
};

}  // namespace agentmux
