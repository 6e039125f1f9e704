#include "kv/oversize.h"

#include <limits>

namespace agentmux {

namespace {

constexpr double unknown   = std::numeric_limits<double>::infinity();
constexpr double advantage = 0.9;   // of the other way's time, before the choice changes
constexpr double weight    = 0.3;   // of the newest time in the smoothed one

}  // namespace

double OversizePolicy::expected_s(Oversize how, int n_tokens, double otherwise) const {
    const auto & seen  = how == Oversize::host ? host_s : stream_s;
    const auto   found = seen.find(n_tokens);
    return found != seen.end() ? found->second : otherwise;
}

Oversize OversizePolicy::choose(int n_tokens, uint64_t missing_bytes, double link_bytes_per_s) const {
    if (fixed != Oversize::automatic) return fixed;
    const double of_one = expected_s(Oversize::host, 1, unknown);
    const double host   = expected_s(Oversize::host, n_tokens, of_one * n_tokens);
    const double stream = expected_s(Oversize::stream, n_tokens, link_bytes_per_s > 0 ? double(missing_bytes) / link_bytes_per_s : unknown);
    if (host == unknown) return n_tokens > 1 ? Oversize::stream : Oversize::host;   // the first single one is how we learn
    return stream < advantage * host ? Oversize::stream : Oversize::host;
}

void OversizePolicy::note(Oversize how, int n_tokens, double seconds) {
    auto & seen               = how == Oversize::host ? host_s : stream_s;
    const auto [entry, first] = seen.emplace(n_tokens, seconds);
    if (!first) entry->second += weight * (seconds - entry->second);
}

std::vector<bool> beyond_arena(const std::vector<Unit> & units, size_t arena_bytes) {
    std::vector<bool> beyond(units.size(), false);
    size_t            left = total_bytes(units);
    for (size_t i = 0; i < units.size() && left > arena_bytes; i++) {
        left -= units[i].bytes;
        beyond[i] = true;
    }
    return beyond;
}

}  // namespace agentmux
