#include "residency/placement.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace agentmux {

namespace {

struct Window {
    Placement placement;
    NextUse   soonest = std::numeric_limits<NextUse>::max();   // of what gives way
    size_t    evicted_bytes = 0;
    size_t    slack         = 0;   // free bytes left between the window and what follows

    // Smaller is better.
    auto cost() const { return std::make_tuple(std::numeric_limits<NextUse>::max() - soonest, evicted_bytes, slack, placement.offset); }
};

std::optional<Window> window_at(const std::vector<Occupied> & occupied, size_t arena_bytes, size_t bytes, NextUse later_than, size_t start) {
    if (bytes > arena_bytes || start > arena_bytes - bytes) return std::nullopt;
    Window window;
    window.placement.offset = start;
    size_t follows = arena_bytes;
    for (const Occupied & block : occupied) {
        if (block.offset + block.bytes <= start) continue;
        if (block.offset >= start + bytes) { follows = block.offset; break; }
        if (block.next <= later_than) return std::nullopt;
        window.placement.evict.push_back(block.unit);
        window.soonest = std::min(window.soonest, block.next);
        window.evicted_bytes += block.bytes;
    }
    window.slack = follows - (start + bytes);
    return window;
}

}  // namespace

std::optional<Placement> place(const std::vector<Occupied> & occupied, size_t arena_bytes, size_t bytes, NextUse later_than) {
    std::vector<size_t> starts = {0};
    for (const Occupied & block : occupied) {
        starts.push_back(block.offset);
        starts.push_back(block.offset + block.bytes);
    }
    std::optional<Window> best;
    for (size_t start : starts) {
        const std::optional<Window> window = window_at(occupied, arena_bytes, bytes, later_than, start);
        if (window && (!best || window->cost() < best->cost())) best = window;
    }
    if (!best) return std::nullopt;
    return best->placement;
}

}  // namespace agentmux
