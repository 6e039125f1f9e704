#include "kv/arrangement.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <random>

using namespace agentmux;

namespace {

std::vector<PassToken> tokens_of(const std::vector<std::pair<int, int>> & slot_and_length) {
    std::vector<PassToken> tokens;
    for (const auto & [slot, length] : slot_and_length) {
        for (int i = 0; i < length; i++) tokens.push_back({100 * slot + i, i, slot, i + 1 == length});
    }
    return tokens;
}

std::vector<int> slots_of(const Arrangement & arrangement) {
    std::vector<int> slots;
    for (const PassToken & t : arrangement.tokens) slots.push_back(t.slot);
    return slots;
}

std::optional<llama_pos> at_seven(int) { return 7; }

Arrangement arranged(const std::vector<PassToken> & tokens, size_t most, std::function<std::optional<llama_pos>(int)> free_position, double pass_tokens = 1e6) {
    return by_slot(tokens, {most, pass_tokens, std::move(free_position)});
}

}  // namespace

TEST_CASE("slots that decode are put in order, and what lies between them is filled") {
    const Arrangement a = arranged(tokens_of({{5, 1}, {1, 1}, {2, 1}}), 64, at_seven);
    CHECK(slots_of(a) == std::vector<int>{1, 2, 3, 4, 5});
    CHECK(a.place_of == std::vector<size_t>{4, 0, 1});
    CHECK(a.fillers == std::vector<size_t>{2, 3});
    CHECK(a.tokens[2].position == 7);
    CHECK(!a.tokens[2].output);
}

TEST_CASE("a gap that is wide, or full, or beyond the batch stays a gap") {
    CHECK(slots_of(arranged(tokens_of({{0, 1}, {8, 1}}), 64, at_seven)) == std::vector<int>{0, 8});
    const auto full = [](int slot) { return slot == 2 ? std::nullopt : at_seven(slot); };
    CHECK(slots_of(arranged(tokens_of({{0, 1}, {3, 1}, {5, 1}}), 64, full)) == std::vector<int>{0, 3, 4, 5});
    CHECK(slots_of(arranged(tokens_of({{0, 1}, {3, 1}}), 3, at_seven)) == std::vector<int>{0, 3});
}

TEST_CASE("a slot that holds much is not made to read all of it for nothing") {
    const auto long_session = [](int) { return std::optional<llama_pos>(999); };
    // Three slots read 1000 places each, instead of two of them one.
    CHECK(slots_of(arranged(tokens_of({{0, 1}, {2, 1}}), 64, long_session, 6000)) == std::vector<int>{0, 1, 2});
    CHECK(slots_of(arranged(tokens_of({{0, 1}, {2, 1}}), 64, long_session, 5990)) == std::vector<int>{0, 2});
}

TEST_CASE("prompts alone need no filling: they are computed one after another anyway") {
    CHECK(slots_of(arranged(tokens_of({{3, 2}, {0, 3}}), 64, at_seven)) == std::vector<int>{0, 0, 0, 3, 3});
}

TEST_CASE("whatever the batch, each token is there once, in its slot's order, and only fillers are added") {
    std::mt19937 random(7);
    for (int round = 0; round < 2000; round++) {
        std::vector<std::pair<int, int>> spans;
        std::vector<int>                 all_slots(20);
        for (int i = 0; i < 20; i++) all_slots[size_t(i)] = i;
        std::shuffle(all_slots.begin(), all_slots.end(), random);
        const int n = 1 + int(random() % 12);
        for (int i = 0; i < n; i++) spans.emplace_back(all_slots[size_t(i)], random() % 3 ? 1 : 1 + int(random() % 9));
        const auto        tokens = tokens_of(spans);
        const size_t      most   = tokens.size() + random() % 8;
        const auto        room   = [&](int slot) { return slot % 5 ? std::optional<llama_pos>(slot) : std::nullopt; };
        const Arrangement a      = arranged(tokens, most, room);
        REQUIRE(a.tokens.size() == tokens.size() + a.fillers.size());
        REQUIRE(a.tokens.size() <= most);
        for (size_t i = 0; i < tokens.size(); i++) {
            const PassToken & there = a.tokens[a.place_of[i]];
            REQUIRE(there.token == tokens[i].token);
            REQUIRE(there.slot == tokens[i].slot);
            REQUIRE(there.position == tokens[i].position);
            REQUIRE(there.output == tokens[i].output);
        }
        const auto in_order = [](const PassToken & x, const PassToken & y) { return std::pair(x.slot, x.position) < std::pair(y.slot, y.position); };
        REQUIRE(std::is_sorted(a.tokens.begin(), a.tokens.end(), in_order));
        for (size_t i : a.fillers) {
            const PassToken & filler = a.tokens[i];
            REQUIRE(std::none_of(tokens.begin(), tokens.end(), [&](const PassToken & t) { return t.slot == filler.slot; }));
            REQUIRE(filler.position == *room(filler.slot));
            REQUIRE(!filler.output);
        }
    }
}

TEST_CASE("lengths are told slot by slot, gaps included") {
    CHECK(lengths_by_slot(tokens_of({{4, 2}, {2, 1}})) == std::vector<int>{1, 0, 2});
    CHECK(lengths_by_slot({}).empty());
}

TEST_CASE("graphs: slots next to each other together, as far as the shortest goes") {
    CHECK(graphs_for({1, 1, 1}, 8) == 1);
    CHECK(graphs_for({1, 0, 1}, 8) == 2);
    CHECK(graphs_for({1, 7}, 8) == 2);
    CHECK(graphs_for({3, 5, 5}, 16) == 2);
    CHECK(graphs_for({4, 4, 4}, 8) == 2);   // 2 + 2 of each
    CHECK(graphs_for({5, 2, 5}, 16) == 3);   // 2 of each, then the first, then the last
    CHECK(graphs_for({}, 8) == 0);
}

TEST_CASE("without separate slots a batch stays as it is") {
    const Arrangement a = in_given_order(tokens_of({{3, 1}, {0, 2}}));
    CHECK(slots_of(a) == std::vector<int>{3, 0, 0});
    CHECK(a.place_of == std::vector<size_t>{0, 1, 2});
    CHECK(a.fillers.empty());
}
