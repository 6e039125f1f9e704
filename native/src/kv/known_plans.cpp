#include "kv/known_plans.h"

#include "kv/oversize.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace agentmux {

namespace {

constexpr int n_before_lengths = 2;

bool is_single(const KnownPlans::Shape & shape) { return shape.front() == 1; }

}  // namespace

KnownPlans::Shape KnownPlans::shape_of(const std::vector<PassToken> & tokens) const {
    Shape lengths = lengths_by_slot(tokens);
    if (!separate) {
        std::erase(lengths, 0);
        std::sort(lengths.rbegin(), lengths.rend());
    }
    const auto n_outputs = std::count_if(tokens.begin(), tokens.end(), [](const PassToken & t) { return t.output; });
    Shape      shape     = {*std::max_element(lengths.begin(), lengths.end()), int(n_outputs)};
    shape.insert(shape.end(), lengths.begin(), lengths.end());
    return shape;
}

KnownPlans::Plan KnownPlans::find(const Shape & shape) {
    if (const auto known = plans.find(shape); known != plans.end()) return known->second;
    const Plan like = nearest(shape);
    const int  n    = graphs_of(shape);
    if (n == 1) return like;
    Plan & whole = several[{like, n}];
    if (whole) return whole;
    std::vector<NodeUses> nodes;
    for (int graph = 0; graph < n; graph++) {
        for (int i = 0; i < like->size(); i++) nodes.push_back(like->at(i));
    }
    return whole = std::make_shared<const UsePlan>(std::move(nodes), n_units);
}

// Passes of one token for each sequence resemble each other, and so do longer ones; the nearest length first, because
// some architectures cut a prompt into pieces.
KnownPlans::Plan KnownPlans::nearest(const Shape & shape) const {
    const auto cost = [&](const Shape & other) {
        return std::make_tuple(graphs_of(other) != 1, is_single(other) != is_single(shape), std::abs(other.front() - shape.front()));
    };
    return std::min_element(plans.begin(), plans.end(), [&](const auto & a, const auto & b) { return cost(a.first) < cost(b.first); })->second;
}

// 1 where that is not known: how such memory cuts a batch is llama.cpp's own affair.
int KnownPlans::graphs_of(const Shape & shape) const {
    return separate ? graphs_for({shape.begin() + n_before_lengths, shape.end()}, batch_tokens) : 1;
}

KnownPlans::Plan KnownPlans::add(const Shape & shape, std::vector<NodeUses> nodes) {
    Plan plan = std::make_shared<const UsePlan>(std::move(nodes), n_units);
    for (const auto & [_, known] : plans) {
        if (*known == *plan) plan = known;   // most shapes of a model have the same plan
    }
    return plans[shape] = plan;
}

// Where slots lie beside each other nearly every mixture of lengths is a shape of its own, and will be foretold as well:
// only what could not be is remembered.
void KnownPlans::confirm(const Shape & shape, const Plan & plan) {
    if (!separate) plans.emplace(shape, plan);
}

size_t KnownPlans::largest_node(const std::vector<size_t> & unit_bytes) const {
    size_t largest = 0;
    for (const auto & [_, plan] : plans) {
        for (int node = 0; node < plan->size(); node++) {
            size_t needed = 0;
            for (int unit : plan->at(node)) needed += unit_bytes[size_t(unit)];
            largest = std::max(largest, needed);
        }
    }
    return largest;
}

std::vector<bool> KnownPlans::turnovers_of(const Plan & plan, const std::vector<bool> & passing) const {
    const auto repeated = std::find_if(several.begin(), several.end(), [&](const auto & entry) { return entry.second == plan; });
    if (repeated == several.end()) return turnovers(*plan, passing);
    const auto & [like, n]       = repeated->first;
    const std::vector<bool> once = turnovers(*like, passing);
    std::vector<bool>       all;
    for (int graph = 0; graph < n; graph++) all.insert(all.end(), once.begin(), once.end());
    return all;
}

}  // namespace agentmux
