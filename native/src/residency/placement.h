// Where an arriving unit goes and what gives way: a pure function over the arena's map.
//
// The rule is Belady's, as far as the future is known: what is needed furthest in the future gives way first. The running
// model's own future is known exactly from its plan; then comes the hinted successor, then everything else, and within
// an idle model the last layers go first, so that what stays is its front, which a next turn needs first.
// Least-recently-used would be the worst choice here: agents take turns in circles, and it evicts what comes next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace agentmux {

// When a unit is needed next; larger is later. Compares by rank, then by distance within the rank.
using NextUse = uint64_t;

enum class Rank : uint64_t { running = 0, hinted = 1, idle = 2 };

constexpr NextUse next_use(Rank rank, uint64_t distance) { return uint64_t(rank) << 48 | distance; }
// Later than anything of this rank.
constexpr NextUse latest(Rank rank) { return next_use(rank, (1ull << 48) - 1); }

struct Occupied {
    size_t  offset = 0, bytes = 0;
    int     unit = -1;
    NextUse next = 0;
};

struct Placement {
    size_t           offset = 0;
    std::vector<int> evict;   // units, by offset
};

// A place for `bytes` in an arena of `arena_bytes`, `occupied` sorted by offset. Only units needed later than `later_than`
// may give way. Prefers free space, the tightest first; then the window whose soonest-needed unit is needed latest, and
// of those the one that evicts fewest bytes. Nothing where no window will do.
std::optional<Placement> place(const std::vector<Occupied> & occupied, size_t arena_bytes, size_t bytes, NextUse later_than);

}  // namespace agentmux
