#include "model/units.h"

#include <doctest/doctest.h>

using namespace agentmux;

namespace {

std::vector<Weight> weights(const std::vector<size_t> & sizes) {
    std::vector<Weight> all;
    for (size_t n : sizes) all.push_back({nullptr, nullptr, n, n, nullptr, false, 0});
    return all;
}

}  // namespace

TEST_CASE("equal layers become equal units and a large head stays alone") {
    for (size_t head : {20, 24, 50}) {
        const auto units = group_units(weights({4, 2, 2, 8, 8, 4, 2, 2, 8, 8, 4, 2, 2, 8, 8, head}), 3, 0);
        REQUIRE(units.size() == 4);
        for (int i = 0; i < 3; i++) CHECK(units[size_t(i)].bytes == 24);
        CHECK(units[3].bytes == head);
    }
}

TEST_CASE("smaller units where the model does not fit") {
    const auto   all     = weights({4, 2, 2, 8, 8, 4, 2, 2, 8, 8, 4, 2, 2, 8, 8, 20});
    const size_t n_bytes = 92;
    CHECK(group_units(all, 3, n_bytes * 2).size() == 4);
    CHECK(group_units(all, 3, n_bytes).size() == 10);   // with contexts beside it, it will not fit
    const auto units = group_units(all, 3, n_bytes / 2);
    REQUIRE(units.size() == 10);
    for (int i = 0; i < 9; i++) CHECK(units[size_t(i)].bytes == 8);
    CHECK(total_bytes(units) == n_bytes);
}

TEST_CASE("no weight is lost, and none is out of order") {
    const auto all   = weights({7, 1, 9, 3, 3, 3, 20, 1});
    const auto units = group_units(all, 2, 0);
    size_t     n = 0, bytes = 0;
    for (const Unit & unit : units) {
        size_t sum = 0;
        for (const Weight & w : unit.weights) {
            CHECK(w.bytes == all[n++].bytes);
            sum += w.arena_bytes;
        }
        CHECK(sum == unit.bytes);
        bytes += sum;
    }
    CHECK(n == all.size());
    CHECK(bytes == 47);
}

TEST_CASE("cuts are made where few results are alive, unless a block would be much larger than a layer") {
    // Three layers: input (2 alive), two matrices of one block with more alive between them, then 2 again.
    std::vector<Weight> all;
    for (int layer = 0; layer < 3; layer++) {
        for (int alive : {2, 4, 3, 2}) all.push_back({nullptr, nullptr, 10, 10, nullptr, false, alive});
    }
    all.push_back({nullptr, nullptr, 15, 15, nullptr, false, 1});
    for (const Unit & unit : group_units(all, 3, 0)) CHECK(unit.weights.front().alive_before <= 2);
    // Something that stays alive from the first layer on must not make all the rest one unit.
    for (size_t i = 2; i < all.size(); i++) all[i].alive_before++;
    const auto units = group_units(all, 3, 0);
    CHECK(units.size() >= 4);
    for (const Unit & unit : units) CHECK(unit.weights.front().alive_before <= 3);
}
