#include "residency/placement.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace agentmux {

namespace {

using Gaps = std::multiset<std::pair<size_t, size_t>>;   // bytes, offset

size_t sum(const std::vector<size_t> & sizes) { return std::accumulate(sizes.begin(), sizes.end(), size_t(0)); }

Gaps gaps_without(const std::vector<Occupant> & occupants, const std::vector<bool> & gone, size_t arena_bytes) {
    std::vector<Piece> taken;
    for (size_t i = 0; i < occupants.size(); i++) {
        if (!gone[i]) taken.insert(taken.end(), occupants[i].pieces.begin(), occupants[i].pieces.end());
    }
    std::sort(taken.begin(), taken.end(), [](const Piece & a, const Piece & b) { return a.offset < b.offset; });
    Gaps   gaps;
    size_t at = 0;
    for (const Piece & piece : taken) {
        if (piece.offset > at) gaps.emplace(piece.offset - at, at);
        at = piece.offset + piece.bytes;
    }
    if (arena_bytes > at) gaps.emplace(arena_bytes - at, at);
    return gaps;
}

// The largest piece first, each into the tightest gap.
std::optional<std::vector<size_t>> fit(Gaps gaps, const std::vector<size_t> & pieces) {
    std::vector<size_t> order(pieces.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pieces[a] > pieces[b]; });
    std::vector<size_t> offsets(pieces.size());
    for (size_t i : order) {
        const auto gap = gaps.lower_bound({pieces[i], 0});
        if (gap == gaps.end()) return std::nullopt;
        const auto [bytes, offset] = *gap;
        gaps.erase(gap);
        offsets[i] = offset;
        if (bytes > pieces[i]) gaps.emplace(bytes - pieces[i], offset + pieces[i]);
    }
    return offsets;
}

// Occupants that may give way, the one needed latest first.
std::vector<int> candidates(const std::vector<Occupant> & occupants, NextUse later_than) {
    std::vector<int> found;
    for (int i = 0; i < int(occupants.size()); i++) {
        if (occupants[size_t(i)].next > later_than) found.push_back(i);
    }
    std::stable_sort(found.begin(), found.end(), [&](int a, int b) { return occupants[size_t(a)].next > occupants[size_t(b)].next; });
    return found;
}

size_t free_bytes(const std::vector<Occupant> & occupants, size_t arena_bytes) {
    size_t used = 0;
    for (const Occupant & o : occupants) used += o.bytes();
    return arena_bytes - used;
}

}  // namespace

size_t Occupant::bytes() const {
    size_t all = 0;
    for (const Piece & piece : pieces) all += piece.bytes;
    return all;
}

std::optional<Placement> place(const std::vector<Occupant> & occupants, size_t arena_bytes, const std::vector<size_t> & pieces, NextUse later_than) {
    const size_t      needed = sum(pieces);
    size_t            room   = free_bytes(occupants, arena_bytes);
    std::vector<bool> gone(occupants.size(), false);
    std::vector<int>  evicted;
    const auto        try_fit = [&] { return room >= needed ? fit(gaps_without(occupants, gone, arena_bytes), pieces) : std::nullopt; };
    auto              offsets = try_fit();
    for (int victim : candidates(occupants, later_than)) {
        if (offsets) break;
        gone[size_t(victim)] = true;
        evicted.push_back(victim);
        room += occupants[size_t(victim)].bytes();
        offsets = try_fit();
    }
    if (!offsets) return std::nullopt;
    // Some may have given way without making room where it was needed; the soonest needed are spared first.
    Placement found;
    for (auto victim = evicted.rbegin(); victim != evicted.rend(); victim++) {
        gone[size_t(*victim)] = false;
        room -= occupants[size_t(*victim)].bytes();
        if (auto spared = try_fit()) {
            offsets = std::move(spared);
            continue;
        }
        gone[size_t(*victim)] = true;
        room += occupants[size_t(*victim)].bytes();
        found.evict.push_back(*victim);
    }
    std::sort(found.evict.begin(), found.evict.end());
    found.offsets = std::move(*offsets);
    return found;
}

std::optional<std::vector<int>> enough_bytes(const std::vector<Occupant> & occupants, size_t arena_bytes, const std::vector<size_t> & pieces,
                                             NextUse later_than) {
    const size_t     needed = sum(pieces);
    size_t           room   = free_bytes(occupants, arena_bytes);
    std::vector<int> evict;
    for (int victim : candidates(occupants, later_than)) {
        if (room >= needed) break;
        room += occupants[size_t(victim)].bytes();
        evict.push_back(victim);
    }
    if (room < needed) return std::nullopt;
    std::sort(evict.begin(), evict.end());
    return evict;
}

// The pieces between the first and the last of some neighbouring gaps move down, so that these become one.
std::optional<std::vector<Move>> make_gap(const std::vector<Occupant> & occupants, size_t arena_bytes, size_t gap_bytes) {
    std::vector<Move> all;
    for (int i = 0; i < int(occupants.size()); i++) {
        const auto & pieces = occupants[size_t(i)].pieces;
        for (int p = 0; p < int(pieces.size()); p++) all.push_back({i, p, pieces[size_t(p)].offset, 0, pieces[size_t(p)].bytes});
    }
    std::sort(all.begin(), all.end(), [](const Move & a, const Move & b) { return a.from < b.from; });
    const auto begin_of = [&](size_t gap) { return gap ? all[gap - 1].from + all[gap - 1].bytes : 0; };   // gap i lies before piece i
    const auto bytes_of = [&](size_t gap) { return (gap < all.size() ? all[gap].from : arena_bytes) - begin_of(gap); };
    size_t                first = 0, free = 0, moved = 0, best_first = 0, best_last = 0;
    std::optional<size_t> best;
    for (size_t last = 0; last <= all.size(); last++) {
        if (last > 0 && occupants[size_t(all[last - 1].occupant)].fixed) {
            first = last;
            free = moved = 0;
        } else if (last > 0) {
            moved += all[last - 1].bytes;
        }
        free += bytes_of(last);
        while (first < last && free - bytes_of(first) >= gap_bytes) {
            free -= bytes_of(first);
            moved -= all[first++].bytes;
        }
        if (free < gap_bytes || (best && *best <= moved)) continue;
        best       = moved;
        best_first = first;
        best_last  = last;
    }
    if (!best) return std::nullopt;
    std::vector<Move> moves;
    size_t            at = begin_of(best_first);
    for (size_t i = best_first; i < best_last; i++) {
        all[i].to = at;
        at += all[i].bytes;
        if (all[i].to != all[i].from) moves.push_back(all[i]);
    }
    return moves;
}

}  // namespace agentmux
