// What is kept of sessions when host memory is short.
#include "kv/session_store.h"

#include <doctest/doctest.h>

using namespace agentmux;

namespace {

StoredSession session(size_t bytes, double last_used_s, llama_token token = 1) { return {{token}, std::vector<uint8_t>(bytes, uint8_t(token)), last_used_s}; }

constexpr uint64_t overhead = sizeof(llama_token);   // of the one token

}  // namespace

TEST_CASE("a stored session comes back as it was, once") {
    HostBudget   budget(0);
    SessionStore store(budget);
    store.put({1, "a"}, session(100, 1, 7));
    CHECK(store.find({2, "a"}) == nullptr);
    CHECK(store.find({1, "a"})->tokens == std::vector<llama_token>{7});
    CHECK(budget.used_bytes() == 100 + overhead);
    const auto back = store.take({1, "a"});
    REQUIRE(back.has_value());
    CHECK(back->state == std::vector<uint8_t>(100, 7));
    CHECK(!store.take({1, "a"}));
    CHECK(budget.used_bytes() == 0);
    CHECK(store.counters().saved_bytes == store.counters().restored_bytes);
}

TEST_CASE("the budget is kept, and the session used longest ago makes room") {
    HostBudget budget(1000);
    {
        SessionStore store(budget);
        store.put({1, "old"}, session(400, 1));
        store.put({1, "new"}, session(400, 2));
        store.put({2, "newest"}, session(400, 3));
        CHECK(store.find({1, "old"}) == nullptr);
        CHECK(store.find({1, "new"}) != nullptr);
        CHECK(store.counters().dropped == 1);
        store.put({2, "too large"}, session(2000, 4));
        CHECK(store.find({2, "too large"}) == nullptr);
        CHECK(store.counters().sessions == 2);   // nobody was dropped for what could not fit anyway
        store.put({2, "newest"}, session(500, 5));   // replaces itself
        CHECK(budget.used_bytes() == 900 + 2 * overhead);
        store.drop_all_of(2);
        CHECK(budget.used_bytes() == 400 + overhead);
        REQUIRE(budget.reserve(300));   // page-locked weights
        store.put({1, "b"}, session(400, 6));
        CHECK(store.find({1, "new"}) == nullptr);
        budget.release(300);
    }
    CHECK(budget.used_bytes() == 0);
}

TEST_CASE("nobody is dropped for a session that weights leave no room for") {
    HostBudget   budget(1000);
    SessionStore store(budget);
    REQUIRE(budget.reserve(500));
    store.put({1, "a"}, session(100, 1));
    store.put({1, "large"}, session(600, 2));
    CHECK(store.find({1, "large"}) == nullptr);
    CHECK(store.find({1, "a"}) != nullptr);
    budget.release(500);
}
