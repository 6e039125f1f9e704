// Which units a compute graph needs, and when: read off the graph node by node, never off an architecture's names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace agentmux {

using NodeUses = std::vector<int>;   // units among a node's sources, each once, in the order of the sources

// The uses of one llama_decode, node by node in the order of computing.
class UsePlan {
  public:
    UsePlan() = default;
    UsePlan(std::vector<NodeUses> nodes, int n_units);

    int size() const { return int(nodes.size()); }
    const NodeUses & at(int node) const { return nodes[std::size_t(node)]; }

    // Nodes from `node` until the unit is used, wrapping around into the next pass of the same plan; a unit that this
    // plan never uses is two passes away.
    int distance(int unit, int node) const;

    // Units in the order in which they are needed from `node` on, wrapping around, each once.
    std::vector<int> upcoming(int node) const;

    bool operator==(const UsePlan & other) const { return nodes == other.nodes; }

  private:
    std::vector<NodeUses>         nodes;   // [node]
    std::vector<std::vector<int>> used_at; // [unit] -> nodes, ascending
};

}  // namespace agentmux
