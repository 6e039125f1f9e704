#include "model/use_plan.h"

#include <algorithm>
#include <utility>

namespace agentmux {

UsePlan::UsePlan(std::vector<NodeUses> uses, int n_units) : nodes(std::move(uses)), used_at(size_t(n_units)) {
    for (int node = 0; node < size(); node++) {
        for (int unit : nodes[size_t(node)]) used_at[size_t(unit)].push_back(node);
    }
}

int UsePlan::distance(int unit, int node) const {
    const std::vector<int> & at = used_at[size_t(unit)];
    if (at.empty()) return 2 * size() + 1;
    const auto next = std::lower_bound(at.begin(), at.end(), node);
    return next != at.end() ? *next - node : size() - node + at.front();
}

std::vector<int> UsePlan::upcoming(int node) const {
    std::vector<std::pair<int, int>> order;   // [unit] -> distance, unit
    for (int unit = 0; unit < int(used_at.size()); unit++) {
        if (!used_at[size_t(unit)].empty()) order.emplace_back(distance(unit, node), unit);
    }
    std::sort(order.begin(), order.end());
    std::vector<int> units;
    for (const auto & [_, unit] : order) units.push_back(unit);
    return units;
}

}  // namespace agentmux
