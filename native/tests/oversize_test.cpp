#include "kv/oversize.h"

#include <doctest/doctest.h>

using namespace agentmux;

TEST_CASE("long passes are streamed and single tokens computed until times are known") {
    OversizePolicy policy(Oversize::automatic);
    CHECK(policy.choose(1, 1000, 0) == Oversize::host);
    CHECK(policy.choose(64, 1000, 0) == Oversize::stream);
    policy.note(Oversize::host, 1, 0.010);
    CHECK(policy.choose(1, 1000, 0) == Oversize::host);   // the link's speed is not known
    CHECK(policy.choose(1, 1000, 1e6) == Oversize::stream);   // 1 ms on the link
    CHECK(policy.choose(1, 1000, 1e4) == Oversize::host);     // 100 ms
    CHECK(policy.choose(64, 1000, 1e4) == Oversize::stream);  // 100 ms against 640
    CHECK(policy.choose(4, 1000, 1e4) == Oversize::host);     // against 40
}

TEST_CASE("measured times decide, and a small difference changes nothing") {
    OversizePolicy policy(Oversize::automatic);
    policy.note(Oversize::host, 1, 0.010);
    policy.note(Oversize::stream, 1, 0.0095);
    CHECK(policy.choose(1, 1000, 1e9) == Oversize::host);   // whatever the link promised
    for (int i = 0; i < 20; i++) policy.note(Oversize::stream, 1, 0.005);
    CHECK(policy.choose(1, 1000, 1e3) == Oversize::stream);
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
