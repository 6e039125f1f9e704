// The placement policy against brute force, on random maps.
#include "residency/placement.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

using namespace agentmux;

namespace {

std::vector<Occupied> random_map(std::mt19937 & random, size_t arena) {
    std::vector<Occupied> map;
    size_t at = random() % 4;
    for (int unit = 0; at < arena; unit++) {
        const size_t n = 1 + random() % 6;
        if (at + n > arena) break;
        map.push_back({at, n, unit, 1 + random() % 50});
        at += n + random() % 3;
    }
    return map;
}

// The latest that the soonest-needed victim can be, over every start; 0 where no window will do.
NextUse best_by_brute_force(const std::vector<Occupied> & map, size_t arena, size_t bytes, NextUse later_than) {
    NextUse best = 0;
    for (size_t start = 0; start + bytes <= arena; start++) {
        NextUse soonest = std::numeric_limits<NextUse>::max();
        for (const Occupied & o : map) {
            if (o.offset < start + bytes && start < o.offset + o.bytes) soonest = std::min(soonest, o.next);
        }
        if (soonest > later_than) best = std::max(best, soonest);
    }
    return best;
}

}  // namespace

TEST_CASE("placement finds what brute force finds, and never takes what is needed sooner") {
    std::mt19937 random(7);
    for (int round = 0; round < 20000; round++) {
        const size_t  arena = 1 + random() % 40, bytes = 1 + random() % 12;
        const NextUse later_than = random() % 60;
        const auto    map        = random_map(random, arena);
        const NextUse best       = best_by_brute_force(map, arena, bytes, later_than);
        const auto    found      = place(map, arena, bytes, later_than);
        REQUIRE(found.has_value() == (best != 0));
        if (!found) continue;
        REQUIRE(found->offset + bytes <= arena);
        NextUse       soonest = std::numeric_limits<NextUse>::max();
        std::set<int> evicted(found->evict.begin(), found->evict.end());
        for (const Occupied & o : map) {
            const bool overlaps = o.offset < found->offset + bytes && found->offset < o.offset + o.bytes;
            REQUIRE(overlaps == (evicted.count(o.unit) == 1));
            if (overlaps) soonest = std::min(soonest, o.next);
        }
        REQUIRE(soonest == best);
    }
}

TEST_CASE("free space is taken before anything gives way, the tightest first") {
    const std::vector<Occupied> map = {{0, 4, 0, 9}, {8, 4, 1, 9}, {14, 6, 2, 9}};   // gaps: 4 at 4, 2 at 12
    CHECK(place(map, 20, 2, 0)->offset == 12);
    CHECK(place(map, 20, 4, 0)->offset == 4);
    CHECK(place(map, 20, 4, 0)->evict.empty());
    CHECK(place(map, 20, 5, 0)->evict.size() == 1);
}

TEST_CASE("an idle model gives way before the hinted one, and that before the running one; its last layers first") {
    const std::vector<Occupied> map = {{0, 4, 0, next_use(Rank::running, 90)}, {4, 4, 1, next_use(Rank::hinted, 1)},
                                       {8, 4, 2, next_use(Rank::idle, 1)}, {12, 4, 3, next_use(Rank::idle, 2)}};
    CHECK(place(map, 16, 4, 0)->evict == std::vector<int>{3});
    CHECK(place(map, 16, 8, 0)->evict == std::vector<int>{2, 3});
    CHECK(!place(map, 16, 12, latest(Rank::hinted)));
    CHECK(place(map, 16, 12, latest(Rank::running))->evict == std::vector<int>{1, 2, 3});
}
