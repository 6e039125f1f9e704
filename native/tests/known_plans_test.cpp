#include "kv/known_plans.h"

#include "kv/oversize.h"

#include <doctest/doctest.h>

using namespace agentmux;

namespace {

std::vector<PassToken> tokens_of(const std::vector<std::pair<int, int>> & slot_and_length) {
    std::vector<PassToken> tokens;
    for (const auto & [slot, length] : slot_and_length) {
        for (int i = 0; i < length; i++) tokens.push_back({0, i, slot, i + 1 == length});
    }
    return tokens;
}

const std::vector<NodeUses> one_graph = {{0}, {}, {1}, {2}};

KnownPlans learnt(bool separate) {
    KnownPlans plans(separate, 64, 3);
    plans.add(plans.shape_of(tokens_of({{0, 1}})), one_graph);
    plans.add(plans.shape_of(tokens_of({{0, 64}})), one_graph);
    return plans;
}

}  // namespace

TEST_CASE("shapes tell how slots lie only where that matters") {
    const KnownPlans shared(false, 64, 3), separate(true, 64, 3);
    CHECK(shared.shape_of(tokens_of({{0, 1}, {3, 5}})) == shared.shape_of(tokens_of({{2, 5}, {1, 1}})));
    CHECK(separate.shape_of(tokens_of({{0, 1}, {3, 5}})) != separate.shape_of(tokens_of({{0, 1}, {1, 5}})));
    CHECK(separate.shape_of(tokens_of({{0, 1}, {1, 5}})) == separate.shape_of(tokens_of({{4, 1}, {5, 5}})));
    CHECK(separate.shape_of(tokens_of({{0, 1}, {1, 5}})) != separate.shape_of(tokens_of({{0, 5}, {1, 1}})));
}

TEST_CASE("a pass of several graphs follows one graph's plan that many times, and the plan is made once") {
    KnownPlans  plans = learnt(true);
    const auto  two   = plans.shape_of(tokens_of({{0, 1}, {1, 9}}));
    const auto  other = plans.shape_of(tokens_of({{2, 20}, {3, 1}}));
    const auto  plan  = plans.find(two);
    REQUIRE(plan->size() == 8);
    for (int node = 0; node < 8; node++) CHECK(plan->at(node) == one_graph[size_t(node % 4)]);
    CHECK(plans.find(other) == plan);
    plans.confirm(two, plan);
    CHECK(!plans.has(two));   // it will be foretold again
    CHECK(plans.find(plans.shape_of(tokens_of({{0, 7}})))->size() == 4);
    CHECK(plans.find(plans.shape_of(tokens_of({{0, 1}, {2, 1}})))->size() == 8);   // a gap
}

TEST_CASE("units turn over in each graph of a pass") {
    KnownPlans              plans   = learnt(true);
    const std::vector<bool> passing = {true, false, true};
    const auto              single = plans.find(plans.shape_of(tokens_of({{0, 1}}))), twice = plans.find(plans.shape_of(tokens_of({{0, 1}, {1, 9}})));
    const auto              once = plans.turnovers_of(single, passing), both = plans.turnovers_of(twice, passing);
    REQUIRE(once == turnovers(*single, passing));
    REQUIRE(both.size() == 2 * once.size());
    for (size_t i = 0; i < both.size(); i++) CHECK(both[i] == once[i % once.size()]);
}

TEST_CASE("what turned out otherwise is remembered, and equal plans are held once") {
    KnownPlans plans = learnt(true);
    const auto shape = plans.shape_of(tokens_of({{0, 3}}));
    const auto added = plans.add(shape, {{0}, {1, 2}});
    CHECK(plans.find(shape) == added);
    CHECK(plans.find(plans.shape_of(tokens_of({{0, 1}}))) == plans.find(plans.shape_of(tokens_of({{0, 64}}))));
    CHECK(plans.largest_node({10, 20, 30}) == 50);
}

TEST_CASE("where slots share cells each shape is remembered once it was seen") {
    KnownPlans plans = learnt(false);
    const auto shape = plans.shape_of(tokens_of({{0, 1}, {1, 9}}));
    const auto plan  = plans.find(shape);
    CHECK(plan->size() == 4);
    CHECK(!plans.has(shape));
    plans.confirm(shape, plan);
    CHECK(plans.has(shape));
}
