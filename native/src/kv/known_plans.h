// Which node needs what, in passes of any shape: as seen before, or as passes like it were.
#pragma once

#include "kv/arrangement.h"
#include "model/use_plan.h"

#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace agentmux {

class KnownPlans {
  public:
    using Plan = std::shared_ptr<const UsePlan>;
    // The most tokens of one slot, the number of outputs, then the tokens of each slot: in any order where slots share
    // cells, or else as they lie beside each other, because gaps and lengths decide what is computed together.
    using Shape = std::vector<int>;

    // separate: each slot has cells of its own, so how many graphs llama.cpp computes can be foretold (graphs_for).
    KnownPlans(bool separate, int batch_tokens, int n_units) : separate(separate), batch_tokens(batch_tokens), n_units(n_units) {}

    Shape shape_of(const std::vector<PassToken> & tokens) const;
    bool  has(const Shape & shape) const { return plans.count(shape) != 0; }
    // The plan of this shape, else of one like it, as many times as there will be graphs. Something must be known.
    Plan  find(const Shape & shape);
    // A shape's nodes as they were seen, one after another; equal plans are held once.
    Plan  add(const Shape & shape, std::vector<NodeUses> nodes);
    // A pass of the shape went as `plan` says.
    void  confirm(const Shape & shape, const Plan & plan);

    const UsePlan & any() const { return *plans.begin()->second; }
    // Bytes that the largest node of any plan needs at once.
    size_t largest_node(const std::vector<size_t> & unit_bytes) const;
    // turnovers, in each graph of a plan that has several.
    std::vector<bool> turnovers_of(const Plan & plan, const std::vector<bool> & passing) const;

  private:
    int  graphs_of(const Shape & shape) const;
    Plan nearest(const Shape & shape) const;

    const bool                           separate;
    const int                            batch_tokens, n_units;
    std::map<Shape, Plan>                plans;
    std::map<std::pair<Plan, int>, Plan> several;   // [plan, n] -> it n times over
};

}  // namespace agentmux
