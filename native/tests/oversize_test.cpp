#include "kv/oversize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace agentmux;

TEST_CASE("long passes are streamed and single tokens computed until times are known") {
    OversizePolicy policy(Oversize::automatic);
    CHECK(policy.choose(1, 1000, 0) == Oversize::host);
    CHECK(policy.choose(64, 1000, 0) == Oversize::stream);
    policy.note(Oversize::host, 1, 0.050);
    policy.note(Oversize::host, 1, 0.010);
    CHECK(policy.choose(1, 1000, 1e6) == Oversize::host);   // too few to judge by
    policy.note(Oversize::host, 1, 0.020);
    CHECK(policy.choose(1, 1000, 0) == Oversize::host);   // the link's speed is not known
    CHECK(policy.choose(1, 1000, 1e4) == Oversize::host);     // 100 ms on it
    CHECK(policy.choose(1, 1000, 1e6) == Oversize::stream);   // 1 ms
    CHECK(policy.choose(64, 1000, 1e4) == Oversize::stream);  // 100 ms against 640
    CHECK(policy.choose(4, 1000, 1e4) == Oversize::host);     // against 40
}

TEST_CASE("measured times decide, and a small difference changes nothing") {
    OversizePolicy policy(Oversize::automatic);
    for (double slower : {0.9, 0.0, 0.4}) {
        policy.note(Oversize::host, 1, 0.010 + slower);
        policy.note(Oversize::stream, 1, 0.0095 + slower);
    }
    CHECK(policy.choose(1, 1000, 1e9) == Oversize::host);   // whatever the link promised
    for (int i = 0; i < 20; i++) policy.note(Oversize::stream, 1, 0.005);
    CHECK(policy.choose(1, 1000, 1e3) == Oversize::stream);
    for (int i = 0; i < 20; i++) policy.note(Oversize::stream, 1, 0.0105);
    CHECK(policy.choose(1, 1000, 1e9) == Oversize::stream);   // nor back again
    for (int i = 0; i < 20; i++) policy.note(Oversize::stream, 1, 0.012);
    CHECK(policy.choose(1, 1000, 1e9) == Oversize::host);
}

TEST_CASE("passes that plan new graphs count until there are others") {
    OversizePolicy policy(Oversize::automatic);
    for (int i = 0; i < 2; i++) policy.note(Oversize::host, 1, 0.500, true);
    policy.note(Oversize::host, 1, 0.400, true);
    CHECK(policy.choose(1, 1000, 1e6) == Oversize::host);   // not yet judged
    policy.note(Oversize::host, 1, 0.010);
    policy.note(Oversize::host, 1, 9.000, true);
    CHECK(policy.choose(1, 1000, 1000 / 0.0095) == Oversize::host);
    CHECK(policy.choose(1, 1000, 1000 / 0.0085) == Oversize::stream);
}

TEST_CASE("a fixed choice stays, and the back stays in the arena") {
    CHECK(OversizePolicy(Oversize::stream).choose(1, 1, 1) == Oversize::stream);
    CHECK(OversizePolicy(Oversize::host).choose(500, 1, 1e9) == Oversize::host);
    std::vector<Unit> units(4);
    for (Unit & unit : units) unit.bytes = 10;
    CHECK(beyond_arena(units, 25) == std::vector<bool>{true, true, false, false});
    CHECK(beyond_arena(units, 9) == std::vector<bool>{true, true, true, true});
    CHECK(beyond_arena(units, 40) == std::vector<bool>{false, false, false, false});
}

namespace {

std::vector<Unit> units_of(const std::vector<size_t> & sizes) {
    std::vector<Unit> units(sizes.size());
    for (size_t i = 0; i < sizes.size(); i++) units[i].bytes = sizes[i];
    return units;
}

size_t bytes_of(const std::vector<Unit> & units, const std::vector<bool> & which) {
    size_t bytes = 0;
    for (size_t i = 0; i < units.size(); i++) bytes += which[i] ? units[i].bytes : 0;
    return bytes;
}

}  // namespace

TEST_CASE("what passes leaves room for the largest of it, and is spread") {
    const auto equal = units_of(std::vector<size_t>(12, 10));
    CHECK(passing_units(equal, 120, 0) == std::vector<bool>(12, false));
    CHECK(passing_units(equal, 10, 0) == std::vector<bool>(12, true));
    // 20 are missing; with room for one to pass through, three do.
    CHECK(passing_units(equal, 100, 5) == std::vector<bool>{false, false, true, false, false, false, true, false, false, false, true, false});
    // Small ones need less room to pass through: five of 3 instead of two of 20.
    const auto mixed = units_of({3, 20, 3, 20, 3, 20, 3, 20, 3, 20, 3, 20});
    CHECK(bytes_of(mixed, passing_units(mixed, 126, 2)) == 15);
    CHECK(bytes_of(mixed, passing_units(mixed, 126, 20)) == 40);   // where stops are dear, fewer
}

TEST_CASE("what passes and what stays always have room together") {
    std::mt19937 random(7);
    for (int round = 0; round < 400; round++) {
        std::vector<size_t> sizes(1 + random() % 20);
        for (size_t & size : sizes) size = 1 + random() % (round % 2 ? 4 : 100);
        const auto   units   = units_of(sizes);
        const size_t all     = total_bytes(units), largest = *std::max_element(sizes.begin(), sizes.end());
        const size_t arena   = largest + random() % (all - largest + 1);
        const auto   passing = passing_units(units, arena, random() % 50);
        size_t       room    = 0;
        for (size_t i = 0; i < sizes.size(); i++) room = std::max(room, passing[i] ? sizes[i] : 0);
        CHECK(all - bytes_of(units, passing) + room <= arena);
        CHECK((bytes_of(units, passing) == 0) == (all <= arena));
    }
}

TEST_CASE("a stop after the last use of what passes, where another unit begins") {
    const UsePlan plan({{0}, {}, {0, 1}, {}, {0}, {2}, {1}, {3}, {}}, 4);
    const auto    at = [&](const std::vector<bool> & passing) {
        const std::vector<bool> stops = turnovers(plan, passing);
        std::vector<int>        nodes;
        for (int node = 0; node < plan.size(); node++) {
            if (stops[size_t(node)]) nodes.push_back(node);
        }
        return nodes;
    };
    CHECK(at({false, false, false, false}).empty());
    CHECK(at({true, false, false, false}) == std::vector<int>{5});
    CHECK(at({false, true, true, false}) == std::vector<int>{7});
    CHECK(at({false, false, false, true}).empty());   // nothing begins after it
}
