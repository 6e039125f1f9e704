// Where an arriving unit goes and what gives way: pure functions over the arena's map.
//
// The rule is Belady's, as far as the future is known: what is needed furthest in the future gives way first. The running
// model's own future is known exactly from its plan; then comes the hinted successor, then everything else, and within
// an idle model the last layers go first, so that what stays is its front, which a next turn needs first.
// Least-recently-used would be the worst choice here: agents take turns in circles, and it evicts what comes next.
//
// A unit lies in pieces, one for each of its matrices, wherever there is room. What cannot be placed although there are
// bytes enough is placed after `make_gap`, so that the whole arena can be used whatever the units' sizes are.
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

struct Piece {
    size_t offset = 0, bytes = 0;
};

// A unit that is in the arena.
struct Occupant {
    std::vector<Piece> pieces;
    NextUse            next  = 0;
    bool               fixed = false;   // cannot be moved now

    size_t bytes() const;
};

struct Placement {
    std::vector<size_t> offsets;   // [piece]
    std::vector<int>    evict;     // occupants, ascending
};

// Places for pieces of these sizes in an arena of `arena_bytes`. Only occupants needed later than `later_than` may give
// way: those needed latest, and none that need not. Nothing where the pieces do not fit even so.
std::optional<Placement> place(const std::vector<Occupant> & occupants, size_t arena_bytes, const std::vector<size_t> & pieces, NextUse later_than);

// Who must give way for there to be bytes enough, wherever they lie; nothing where there never are. When these have gone
// and gaps are joined, `place` succeeds.
std::optional<std::vector<int>> enough_bytes(const std::vector<Occupant> & occupants, size_t arena_bytes, const std::vector<size_t> & pieces,
                                             NextUse later_than);

struct Move {
    int    occupant = -1, piece = -1;
    size_t from = 0, to = 0, bytes = 0;   // to < from; the two may overlap
};

// Moves, to be done in this order, after which `gap_bytes` are free in one stretch: as few bytes as that takes, none of a
// fixed occupant. Nothing where no such stretch can be made.
std::optional<std::vector<Move>> make_gap(const std::vector<Occupant> & occupants, size_t arena_bytes, size_t gap_bytes);

}  // namespace agentmux
