#include "kv/session_store.h"

#include <algorithm>

namespace agentmux {

namespace {

uint64_t bytes_of(const StoredSession & session) { return session.state.size() + session.tokens.size() * sizeof(llama_token); }

}  // namespace

SessionStore::~SessionStore() { budget.release(counts.bytes); }

void SessionStore::unbook(uint64_t bytes) {
    budget.release(bytes);
    counts.bytes -= bytes;
}

void SessionStore::erase(Sessions::iterator session) {
    unbook(bytes_of(session->second));
    sessions.erase(session);
    counts.sessions = sessions.size();
}

bool SessionStore::make_room(uint64_t bytes) {
    // Were all sessions gone, would it fit? (Weights have their part of the budget too.)
    const uint64_t others = budget.used_bytes() - counts.bytes;
    if (budget.limit_bytes() && (others > budget.limit_bytes() || bytes > budget.limit_bytes() - others)) return false;
    while (!budget.reserve(bytes)) {
        const auto oldest = std::min_element(sessions.begin(), sessions.end(),
                                             [](const auto & a, const auto & b) { return a.second.last_used_s < b.second.last_used_s; });
        if (oldest == sessions.end()) return false;
        erase(oldest);
        counts.dropped++;
    }
    return true;
}

void SessionStore::put(const Key & key, StoredSession session) {
    std::lock_guard lock(mutex);
    if (const auto old = sessions.find(key); old != sessions.end()) erase(old);
    const uint64_t bytes = bytes_of(session);
    if (!make_room(bytes)) {
        counts.dropped++;
        return;
    }
    counts.bytes += bytes;
    counts.saved_bytes += bytes;
    sessions.emplace(key, std::move(session));
    counts.sessions = sessions.size();
}

std::optional<StoredSession> SessionStore::take(const Key & key) {
    std::lock_guard lock(mutex);
    const auto      found = sessions.find(key);
    if (found == sessions.end()) return std::nullopt;
    counts.restored_bytes += bytes_of(found->second);
    unbook(bytes_of(found->second));
    StoredSession session = std::move(found->second);
    sessions.erase(found);
    counts.sessions = sessions.size();
    return session;
}

const StoredSession * SessionStore::find(const Key & key) const {
    std::lock_guard lock(mutex);
    const auto      found = sessions.find(key);
    return found == sessions.end() ? nullptr : &found->second;
}

void SessionStore::drop(const Key & key) {
    std::lock_guard lock(mutex);
    if (const auto found = sessions.find(key); found != sessions.end()) erase(found);
}

void SessionStore::drop_all_of(int runner) {
    std::lock_guard lock(mutex);
    for (auto session = sessions.begin(); session != sessions.end();) {
        const auto next = std::next(session);
        if (session->first.first == runner) erase(session);
        session = next;
    }
}

SessionCounters SessionStore::counters() const {
    std::lock_guard lock(mutex);
    return counts;
}

}  // namespace agentmux
