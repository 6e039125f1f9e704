#include "kv/oversize.h"

#include <algorithm>
#include <limits>
#include <set>

namespace agentmux {

namespace {

constexpr double unknown   = std::numeric_limits<double>::infinity();
constexpr double advantage = 0.9;   // of the other way's time, before the choice changes
constexpr double weight    = 0.3;   // of the newest time in the smoothed one
constexpr int    first_few = 3;     // passes, before they count

struct Choice {
    std::vector<bool> passing;
    size_t            n = 0, bytes = 0, largest = 0;

    size_t gained() const { return bytes - largest; }   // what the arena need not hold
    size_t cost(size_t stop_bytes) const { return bytes + n * stop_bytes; }
};

// n of the units that are at most this large, evenly spread.
Choice spread(const std::vector<Unit> & units, size_t most_bytes, size_t n) {
    std::vector<size_t> eligible;
    for (size_t i = 0; i < units.size(); i++) {
        if (units[i].bytes <= most_bytes) eligible.push_back(i);
    }
    Choice choice{std::vector<bool>(units.size(), false), n};
    for (size_t k = 0; k < n; k++) {
        const size_t unit    = eligible[(2 * k + 1) * eligible.size() / (2 * n)];
        choice.passing[unit] = true;
        choice.bytes += units[unit].bytes;
        choice.largest = std::max(choice.largest, units[unit].bytes);
    }
    return choice;
}

}  // namespace

double OversizePolicy::expected_s(Oversize how, int n_tokens, double otherwise) const {
    const auto & seen  = how == Oversize::host ? host : stream;
    const auto   found = seen.find(n_tokens);
    return found != seen.end() && found->second.passes >= first_few ? found->second.seconds : otherwise;
}

Oversize OversizePolicy::choose(int n_tokens, uint64_t missing_bytes, double link_bytes_per_s) {
    if (fixed != Oversize::automatic) return fixed;
    const double of_one    = expected_s(Oversize::host, 1, unknown);
    const double on_host   = expected_s(Oversize::host, n_tokens, of_one * n_tokens);
    const double streaming = expected_s(Oversize::stream, n_tokens, link_bytes_per_s > 0 ? double(missing_bytes) / link_bytes_per_s : unknown);
    Oversize &   now       = chosen.emplace(n_tokens, Oversize::host).first->second;
    if (on_host == unknown) return now = n_tokens > 1 ? Oversize::stream : Oversize::host;   // the first single ones are how we learn
    if (now == Oversize::host ? streaming < advantage * on_host : on_host < advantage * streaming) {
        now = now == Oversize::host ? Oversize::stream : Oversize::host;
    }
    return now;
}

void OversizePolicy::note(Oversize how, int n_tokens, double seconds, bool replanned) {
    Seen & seen = (how == Oversize::host ? host : stream)[n_tokens];
    if (replanned && seen.passes >= first_few - 1) return;
    if (seen.passes == 0 || (seen.passes < first_few && seconds < seen.seconds)) seen.seconds = seconds;
    else if (seen.passes >= first_few) seen.seconds += weight * (seconds - seen.seconds);
    seen.passes++;
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

std::vector<bool> passing_units(const std::vector<Unit> & units, size_t arena_bytes, size_t stop_bytes) {
    const size_t all = total_bytes(units);
    if (all <= arena_bytes) return std::vector<bool>(units.size(), false);
    std::vector<size_t> sizes;
    for (const Unit & unit : units) sizes.push_back(unit.bytes);
    std::sort(sizes.begin(), sizes.end());
    Choice best{std::vector<bool>(units.size(), true), units.size(), all};
    for (size_t n_eligible = 1; n_eligible <= sizes.size(); n_eligible++) {
        if (n_eligible < sizes.size() && sizes[n_eligible] == sizes[n_eligible - 1]) continue;   // not all of that size
        for (size_t n = 1; n <= n_eligible; n++) {
            Choice choice = spread(units, sizes[n_eligible - 1], n);
            if (choice.gained() < all - arena_bytes) continue;
            if (choice.cost(stop_bytes) < best.cost(stop_bytes)) best = std::move(choice);
            break;
        }
    }
    return best.passing;
}

std::vector<bool> turnovers(const UsePlan & plan, const std::vector<bool> & passing) {
    std::vector<bool>   stop(size_t(plan.size()), false);
    std::vector<int>    first(passing.size(), plan.size()), last(passing.size(), -1);
    for (int node = 0; node < plan.size(); node++) {
        for (int unit : plan.at(node)) {
            first[size_t(unit)] = std::min(first[size_t(unit)], node);
            last[size_t(unit)]  = node;
        }
    }
    const std::set<int> safe(first.begin(), first.end());
    for (size_t unit = 0; unit < passing.size(); unit++) {
        if (!passing[unit] || last[unit] < 0) continue;
        const auto after = safe.upper_bound(last[unit]);
        if (after != safe.end() && *after < plan.size()) stop[size_t(*after)] = true;
    }
    return stop;
}

}  // namespace agentmux
