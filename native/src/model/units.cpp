#include "model/units.h"

#include <algorithm>

namespace agentmux {

std::vector<Unit> group_units(const std::vector<Weight> & weights, int n_layers) {
    size_t all = 0, largest = 0;
    for (const Weight & w : weights) {
        all += w.arena_bytes;
        largest = std::max(largest, w.arena_bytes);
    }
    const size_t target = (all - largest) / size_t(std::max(n_layers, 1));
    std::vector<Unit> units;
    for (const Weight & w : weights) {
        if (units.empty() || units.back().bytes + w.arena_bytes > target) units.emplace_back();
        units.back().weights.push_back(w);
        units.back().bytes += w.arena_bytes;
    }
    return units;
}

size_t total_bytes(const std::vector<Unit> & units) {
    size_t all = 0;
    for (const Unit & unit : units) all += unit.bytes;
    return all;
}

}  // namespace agentmux
