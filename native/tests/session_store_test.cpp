// What is kept of sessions when host memory is short.
#include "kv/session_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

using namespace agentmux;

namespace {

BufferPtr plain(size_t bytes) { return BufferPtr(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), bytes)); }

void put(SessionStore & store, const SessionStore::Key & key, size_t bytes, double last_used_s, llama_token token = 1) {
    store.put(key, {token}, last_used_s, bytes, [&](std::span<uint8_t> to) {
        REQUIRE(to.size() == bytes);
        std::memset(to.data(), token, to.size());
        return true;
    });
}

bool holds(std::span<const uint8_t> state, size_t bytes, uint8_t fill) {
    return state.size() == bytes && std::all_of(state.begin(), state.end(), [&](uint8_t byte) { return byte == fill; });
}

constexpr uint64_t overhead = sizeof(llama_token);   // of the one token

}  // namespace

TEST_CASE("a stored session comes back as it was, once") {
    HostBudget   budget(0);
    SessionStore store(budget, plain);
    put(store, {1, "a"}, 100, 1, 7);
    CHECK(store.find({2, "a"}) == nullptr);
    CHECK(store.find({1, "a"})->tokens() == std::vector<llama_token>{7});
    CHECK(budget.used_bytes() >= 100 + overhead);
    CHECK(store.counters().bytes == 100 + overhead);
    {
        const auto back = store.take({1, "a"});
        REQUIRE(back.has_value());
        CHECK(back->tokens() == std::vector<llama_token>{7});
        CHECK(holds(back->state(), 100, 7));
        CHECK(!store.take({1, "a"}));
        put(store, {1, "b"}, 100, 2, 8);   // elsewhere: what was taken is still to be read
        CHECK(holds(back->state(), 100, 7));
        CHECK(holds(store.find({1, "b"})->state(), 100, 8));
    }
    CHECK(store.take({1, "b"}).has_value());
    CHECK(store.counters().bytes == 0);
    CHECK(store.counters().sessions == 0);
    CHECK(store.counters().saved_bytes == store.counters().restored_bytes);
    store.give_back_unused();
    CHECK(budget.used_bytes() == 0);
}

TEST_CASE("a state that cannot be written is not there") {
    HostBudget   budget(0);
    SessionStore store(budget, plain);
    put(store, {1, "a"}, 100, 1);
    store.put({1, "a"}, {1, 2}, 2, 100, [](std::span<uint8_t>) { return false; });
    CHECK(store.find({1, "a"}) == nullptr);   // nor what it would have replaced
    CHECK(store.counters().sessions == 0);
    CHECK(store.counters().bytes == 0);
    CHECK(store.counters().dropped == 1);
}

TEST_CASE("the budget is kept, and the session used longest ago makes room") {
    HostBudget budget(1000);
    {
        SessionStore store(budget, plain);
        put(store, {1, "old"}, 400, 1);
        put(store, {1, "new"}, 400, 2);
        put(store, {2, "newest"}, 400, 3);
        CHECK(store.find({1, "old"}) == nullptr);
        CHECK(store.find({1, "new"}) != nullptr);
        CHECK(store.counters().dropped == 1);
        put(store, {2, "too large"}, 2000, 4);
        CHECK(store.find({2, "too large"}) == nullptr);
        CHECK(store.counters().sessions == 2);   // nobody was dropped for what could not fit anyway
        put(store, {2, "newest"}, 440, 5);   // replaces itself
        CHECK(store.counters().bytes == 840 + 2 * overhead);
        CHECK(budget.used_bytes() <= 1000);
        store.drop_all_of(2);
        CHECK(store.counters().bytes == 400 + overhead);
        REQUIRE(budget.reserve(300));   // page-locked weights
        put(store, {1, "b"}, 400, 6);
        CHECK(store.find({1, "new"}) == nullptr);
        CHECK(store.find({1, "b"}) != nullptr);
        budget.release(300);
    }
    CHECK(budget.used_bytes() == 0);
}

TEST_CASE("nobody is dropped for a session that weights, or what was taken, leave no room for") {
    HostBudget budget(1000);
    {
        SessionStore store(budget, plain);
        REQUIRE(budget.reserve(500));
        put(store, {1, "a"}, 100, 1);
        put(store, {1, "large"}, 600, 2);
        CHECK(store.find({1, "large"}) == nullptr);
        CHECK(store.find({1, "a"}) != nullptr);
        budget.release(500);
        put(store, {1, "taken"}, 500, 3);
        const auto taken = store.take({1, "taken"});
        put(store, {1, "large"}, 600, 4);
        CHECK(store.find({1, "large"}) == nullptr);
        CHECK(store.find({1, "a"}) != nullptr);
    }
    CHECK(budget.used_bytes() == 0);
}

TEST_CASE("nobody is dropped for a session that has no room beside the memory in which something else lies") {
    HostBudget   budget(1000);
    SessionStore store(budget, plain);
    put(store, {1, "x"}, 380, 1);
    put(store, {1, "y"}, 380, 2);
    const auto taken = store.take({1, "x"});
    put(store, {1, "z"}, 530, 3);   // 1000 less 380 would be enough, less the whole of what was got for them it is not
    CHECK(store.find({1, "z"}) == nullptr);
    CHECK(store.find({1, "y"}) != nullptr);
}

TEST_CASE("memory is got in advance once sessions have come") {
    HostBudget   budget(0);
    SessionStore store(budget, plain);
    CHECK(!store.prepare(100));
    put(store, {1, "a"}, 100, 1);
    CHECK(!store.prepare(100));   // there is room beside it
    const uint64_t held = budget.used_bytes();
    CHECK(store.prepare(held));
    CHECK(budget.used_bytes() > held);
    CHECK(!store.prepare(held));
}
