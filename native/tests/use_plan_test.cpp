#include "model/use_plan.h"

#include <doctest/doctest.h>

using namespace agentmux;

TEST_CASE("distances run to the next use and wrap around into the next pass") {
    const UsePlan plan({{}, {0}, {0}, {}, {1}, {2, 0}, {}}, 4);
    CHECK(plan.distance(0, 0) == 1);
    CHECK(plan.distance(0, 2) == 0);
    CHECK(plan.distance(0, 3) == 2);
    CHECK(plan.distance(1, 5) == 7 - 5 + 4);
    CHECK(plan.distance(3, 0) == 15);   // never used
    CHECK(plan.upcoming(0) == std::vector<int>{0, 1, 2});
    CHECK(plan.upcoming(5) == std::vector<int>{0, 2, 1});
}
