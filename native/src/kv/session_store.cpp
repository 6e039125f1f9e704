#include "kv/session_store.h"

#include <algorithm>
#include <cstring>

namespace agentmux {

std::vector<llama_token> StoredSession::tokens() const {
    std::vector<llama_token> all(n_tokens);
    if (n_tokens > 0) std::memcpy(all.data(), block.data(), n_tokens * sizeof(llama_token));
    return all;
}

void SessionStore::erase(Sessions::iterator session) {
    std::lock_guard lock(mutex);
    counts.bytes -= session->second.block.size();
    counts.sessions--;
    sessions.erase(session);
}

void SessionStore::count_dropped() {
    std::lock_guard lock(mutex);
    counts.dropped++;
}

// Were all sessions gone, would it fit? Weights have their part of the budget too, and what was taken is still in memory.
bool SessionStore::could_fit(size_t bytes) const {
    std::vector<const BlockPool::Block *> all;
    for (const auto & [_, session] : sessions) all.push_back(&session.block);
    return pool.fits_without(all, bytes);
}

std::optional<BlockPool::Block> SessionStore::make_room(size_t bytes) {
    if (!could_fit(bytes)) return std::nullopt;
    while (true) {
        if (auto block = pool.take(bytes)) return block;
        const auto oldest = std::min_element(sessions.begin(), sessions.end(),
                                             [](const auto & a, const auto & b) { return a.second.last_used_s < b.second.last_used_s; });
        if (oldest == sessions.end()) return std::nullopt;
        erase(oldest);
        count_dropped();
    }
}

void SessionStore::put(const Key & key, const std::vector<llama_token> & tokens, double last_used_s, size_t state_bytes, const Write & write) {
    drop(key);
    const size_t token_bytes = bytes_for(tokens.size(), 0);
    auto         block       = make_room(bytes_for(tokens.size(), state_bytes));
    if (!block || !write({block->data() + token_bytes, state_bytes})) return count_dropped();
    if (token_bytes > 0) std::memcpy(block->data(), tokens.data(), token_bytes);
    std::lock_guard lock(mutex);
    counts.bytes += block->size();
    counts.saved_bytes += block->size();
    counts.sessions++;
    sessions.emplace(key, StoredSession{std::move(*block), tokens.size(), last_used_s});
}

std::optional<StoredSession> SessionStore::take(const Key & key) {
    const auto found = sessions.find(key);
    if (found == sessions.end()) return std::nullopt;
    StoredSession   session = std::move(found->second);
    std::lock_guard lock(mutex);
    sessions.erase(found);
    counts.bytes -= session.block.size();
    counts.restored_bytes += session.block.size();
    counts.sessions--;
    return session;
}

const StoredSession * SessionStore::find(const Key & key) const {
    const auto found = sessions.find(key);
    return found == sessions.end() ? nullptr : &found->second;
}

void SessionStore::drop(const Key & key) {
    if (const auto found = sessions.find(key); found != sessions.end()) erase(found);
}

void SessionStore::drop_all_of(int runner) {
    for (auto session = sessions.begin(); session != sessions.end();) {
        const auto next = std::next(session);
        if (session->first.first == runner) erase(session);
        session = next;
    }
    pool.give_back_unused();
}

bool SessionStore::prepare(size_t bytes) { return bytes > 0 && counters().saved_bytes > 0 && pool.prepare(bytes); }

SessionCounters SessionStore::counters() const {
    std::lock_guard lock(mutex);
    return counts;
}

}  // namespace agentmux
