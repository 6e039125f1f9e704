#include "model/units.h"

#include <algorithm>
#include <set>

namespace agentmux {

namespace {

constexpr double largest_block    = 1.5;   // of a layer
constexpr size_t passing_fraction = 3;     // of a layer, where not all layers fit
constexpr double usable_room      = 0.9;   // the rest is for contexts

struct Sizes {
    size_t all = 0, largest = 0;

    size_t layer(int n_layers) const { return (all - largest) / size_t(std::max(n_layers, 1)); }
};

template <class Things, class BytesOf> Sizes sizes_of(const Things & things, BytesOf bytes_of) {
    Sizes sizes;
    for (const auto & thing : things) {
        sizes.all += bytes_of(thing);
        sizes.largest = std::max<size_t>(sizes.largest, bytes_of(thing));
    }
    return sizes;
}

// Weights that stay together where cuts are made only with at most this many results alive.
std::vector<Unit> blocks(const std::vector<Weight> & weights, int most_alive) {
    std::vector<Unit> all;
    for (const Weight & w : weights) {
        if (all.empty() || w.alive_before <= most_alive) all.emplace_back();
        all.back().weights.push_back(w);
        all.back().bytes += w.arena_bytes;
    }
    return all;
}

std::vector<Unit> blocks_of_a_layer_at_most(const std::vector<Weight> & weights, int n_layers) {
    const Sizes   sizes = sizes_of(weights, [](const Weight & w) { return w.arena_bytes; });
    const size_t  most  = std::max(sizes.largest, size_t(largest_block * double(sizes.layer(n_layers))));
    std::set<int> alive;
    for (const Weight & w : weights) alive.insert(w.alive_before);
    for (int n : alive) {
        std::vector<Unit> found = blocks(weights, n);
        if (n == *alive.rbegin() || sizes_of(found, [](const Unit & u) { return u.bytes; }).largest <= most) return found;
    }
    return {};
}

}  // namespace

std::vector<Unit> group_units(const std::vector<Weight> & weights, int n_layers, uint64_t room_bytes) {
    const std::vector<Unit> parts  = blocks_of_a_layer_at_most(weights, n_layers);
    const bool              passes = room_bytes > 0 && double(total_bytes(parts)) > usable_room * double(room_bytes);
    const size_t            target = sizes_of(parts, [](const Unit & u) { return u.bytes; }).layer(n_layers) / (passes ? passing_fraction : 1);
    std::vector<Unit>       units;
    for (const Unit & part : parts) {
        if (units.empty() || units.back().bytes + part.bytes > target) units.emplace_back();
        units.back().weights.insert(units.back().weights.end(), part.weights.begin(), part.weights.end());
        units.back().bytes += part.bytes;
    }
    return units;
}

size_t total_bytes(const std::vector<Unit> & units) {
    size_t all = 0;
    for (const Unit & unit : units) all += unit.bytes;
    return all;
}

}  // namespace agentmux
