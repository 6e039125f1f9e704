// The placement policy against brute force, on random maps and on small cases with a known future.
#include "residency/placement.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

using namespace agentmux;

namespace {

constexpr NextUse never_needed = std::numeric_limits<NextUse>::max();

// Occupants of one to three pieces, scattered over the arena.
std::vector<Occupant> random_map(std::mt19937 & random, size_t arena) {
    std::vector<Occupant> map;
    size_t                at = random() % 4;
    while (true) {
        const size_t n = 1 + random() % 6;
        if (at + n > arena) return map;
        if (map.empty() || map.back().pieces.size() == 3 || random() % 2) map.push_back({{}, 1 + random() % 50});
        map.back().pieces.push_back({at, n});
        at += n + random() % 3;
    }
}

size_t sum(const std::vector<size_t> & sizes) { return std::accumulate(sizes.begin(), sizes.end(), size_t(0)); }

bool overlap(size_t a, size_t a_bytes, const Piece & b) { return a < b.offset + b.bytes && b.offset < a + a_bytes; }

}  // namespace

TEST_CASE("what is placed lies within the arena, over nothing that stays, and takes nothing that is needed sooner") {
    std::mt19937 random(7);
    int          n_found = 0, n_evicting = 0;
    for (int round = 0; round < 20000; round++) {
        const size_t        arena = 1 + random() % 60;
        const NextUse       later_than = random() % 60;
        const auto          map        = random_map(random, arena);
        std::vector<size_t> pieces;
        for (size_t i = 0; i < 1 + random() % 3; i++) pieces.push_back(1 + random() % 9);
        const auto found = place(map, arena, pieces, later_than);
        if (const auto enough = enough_bytes(map, arena, pieces, later_than)) {
            // With gaps closed it would fit.
            auto left = map;
            for (auto victim = enough->rbegin(); victim != enough->rend(); victim++) left.erase(left.begin() + *victim);
            const auto moves = make_gap(left, arena, sum(pieces));
            REQUIRE(moves.has_value());
            for (const Move & m : *moves) left[size_t(m.occupant)].pieces[size_t(m.piece)].offset = m.to;
            REQUIRE(place(left, arena, pieces, never_needed).has_value());
        } else {
            REQUIRE(!found);
        }
        if (!found) continue;
        n_found++;
        n_evicting += !found->evict.empty();
        const std::set<int> evicted(found->evict.begin(), found->evict.end());
        for (int victim : evicted) REQUIRE(map[size_t(victim)].next > later_than);
        for (size_t i = 0; i < pieces.size(); i++) {
            REQUIRE(found->offsets[i] + pieces[i] <= arena);
            for (size_t j = 0; j < i; j++) REQUIRE(!overlap(found->offsets[i], pieces[i], {found->offsets[j], pieces[j]}));
            for (size_t o = 0; o < map.size(); o++) {
                if (evicted.count(int(o))) continue;
                for (const Piece & piece : map[o].pieces) REQUIRE(!overlap(found->offsets[i], pieces[i], piece));
            }
        }
        // None gave way needlessly.
        for (int spared : evicted) {
            size_t room = arena;
            for (size_t o = 0; o < map.size(); o++) room -= evicted.count(int(o)) && int(o) != spared ? 0 : map[o].bytes();
            std::vector<Occupant> without;
            for (size_t o = 0; o < map.size(); o++) {
                if (!evicted.count(int(o)) || int(o) == spared) without.push_back({map[o].pieces, 0});
            }
            REQUIRE((room < sum(pieces) || !place(without, arena, pieces, 0)));
        }
    }
    CHECK(n_found > 5000);
    CHECK(n_evicting > 1000);
}

TEST_CASE("who is needed latest gives way, and a tight gap is taken before a wide one") {
    const std::vector<Occupant> map = {{{{0, 4}}, 9}, {{{8, 4}}, 9}, {{{14, 6}}, 9}};   // gaps: 4 at 4, 2 at 12
    CHECK(place(map, 20, {2}, 0)->offsets == std::vector<size_t>{12});
    CHECK(place(map, 20, {4}, 0)->offsets == std::vector<size_t>{4});
    CHECK(place(map, 20, {2, 4}, 0)->evict.empty());
    CHECK(place(map, 20, {5}, 0)->evict.size() == 1);
    const std::vector<Occupant> ranks = {{{{0, 4}}, next_use(Rank::running, 90)}, {{{4, 4}}, next_use(Rank::hinted, 1)},
                                         {{{8, 4}}, next_use(Rank::idle, 1)}, {{{12, 4}}, next_use(Rank::idle, 2)}};
    CHECK(place(ranks, 16, {4}, 0)->evict == std::vector<int>{3});
    CHECK(place(ranks, 16, {8}, 0)->evict == std::vector<int>{2, 3});
    CHECK(!place(ranks, 16, {12}, latest(Rank::hinted)));
    CHECK(place(ranks, 16, {12}, latest(Rank::running))->evict == std::vector<int>{1, 2, 3});
}

namespace {

// Uploads of the best possible policy for this sequence of uses, by trying everything.
int fewest_uploads(const std::vector<int> & uses, size_t at, std::set<int> here, size_t room, std::map<std::pair<size_t, std::set<int>>, int> & known) {
    if (at == uses.size()) return 0;
    if (here.count(uses[at])) return fewest_uploads(uses, at + 1, here, room, known);
    const auto key = std::make_pair(at, here);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    int best = std::numeric_limits<int>::max();
    if (here.size() < room) {
        auto next = here;
        next.insert(uses[at]);
        best = fewest_uploads(uses, at + 1, next, room, known);
    } else {
        for (int victim : here) {
            auto next = here;
            next.erase(victim);
            next.insert(uses[at]);
            best = std::min(best, fewest_uploads(uses, at + 1, next, room, known));
        }
    }
    return known[key] = best + 1;
}

int uploads_by_policy(const std::vector<int> & uses, size_t room) {
    std::vector<int>    units;   // [occupant]
    std::vector<size_t> offsets;
    int                 n = 0;
    for (size_t at = 0; at < uses.size(); at++) {
        if (std::find(units.begin(), units.end(), uses[at]) != units.end()) continue;
        std::vector<Occupant> map;
        for (size_t o = 0; o < units.size(); o++) {
            const auto next = std::find(uses.begin() + long(at), uses.end(), units[o]);
            map.push_back({{{offsets[o], 10}}, next == uses.end() ? never_needed : next_use(Rank::running, uint64_t(next - uses.begin()))});
        }
        const auto found = place(map, room * 10, {10}, 0);
        REQUIRE(found.has_value());
        for (auto victim = found->evict.rbegin(); victim != found->evict.rend(); victim++) {
            units.erase(units.begin() + *victim);
            offsets.erase(offsets.begin() + *victim);
        }
        units.push_back(uses[at]);
        offsets.push_back(found->offsets[0]);
        n++;
    }
    return n;
}

}  // namespace

TEST_CASE("with equal units and a known future, no policy uploads less") {
    std::mt19937 random(11);
    for (int round = 0; round < 300; round++) {
        const size_t     room = 1 + random() % 4, n_units = room + 1 + random() % 3;
        std::vector<int> uses(12);
        for (int & use : uses) use = int(random() % n_units);
        std::map<std::pair<size_t, std::set<int>>, int> known;
        REQUIRE(uploads_by_policy(uses, room) == fewest_uploads(uses, 0, {}, room, known));
    }
    // Models that take turns in circles, where least-recently-used would upload everything each time.
    const std::vector<int> circle = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    CHECK(uploads_by_policy(circle, 3) < 9);
}

TEST_CASE("units of mixed sizes can use at least 95 % of the arena, whatever came and went before") {
    std::mt19937 random(3);
    for (int round = 0; round < 40; round++) {
        const size_t          arena = 20000;
        std::vector<Occupant> here;
        double                worst = 1;
        for (int step = 0; step < 400; step++) {
            // Three models: units of about 60, 250 and 700, of one to five pieces.
            const size_t        unit = std::vector<size_t>{60, 250, 700}[random() % 3];
            std::vector<size_t> pieces;
            for (size_t i = 0, n = 1 + random() % 5; i < n; i++) pieces.push_back(std::max<size_t>(1, unit / n + random() % 20));
            const NextUse next = 1 + random() % 1000;
            auto          found = place(here, arena, pieces, 0);
            if (here.size() > 20 && !found->evict.empty()) {
                // The arena is full: how much of it is used before somebody has to give way?
                size_t room = arena;
                for (const Occupant & o : here) room -= o.bytes();
                if (!place(here, arena, pieces, never_needed)) {
                    const auto moves = make_gap(here, arena, room);
                    REQUIRE(moves.has_value());
                    for (const Move & m : *moves) here[size_t(m.occupant)].pieces[size_t(m.piece)].offset = m.to;
                    size_t used = sum(pieces);
                    for (const Occupant & o : here) used += o.bytes();
                    if (!place(here, arena, pieces, never_needed)) worst = std::min(worst, double(used - sum(pieces)) / double(arena));
                }
                found = place(here, arena, pieces, 0);
            }
            REQUIRE(found.has_value());
            for (auto victim = found->evict.rbegin(); victim != found->evict.rend(); victim++) here.erase(here.begin() + *victim);
            Occupant arrived{{}, next};
            for (size_t i = 0; i < pieces.size(); i++) arrived.pieces.push_back({found->offsets[i], pieces[i]});
            here.push_back(arrived);
        }
        CHECK(worst >= 0.95);
        CHECK(worst < 1);
    }
}

TEST_CASE("a gap is made by moves in order, without writing over what is still to be moved, and by as few as can be") {
    std::mt19937 random(5);
    int          n_made = 0, n_fixed = 0;
    for (int round = 0; round < 4000; round++) {
        const size_t      arena = 80, gap = 1 + random() % 40;
        auto              map   = random_map(random, arena);
        if (round % 2 && !map.empty()) map[random() % map.size()].fixed = true;
        std::vector<int>  memory(arena, -1);
        int               id = 0;
        std::map<std::pair<int, int>, int> ids;
        std::map<size_t, std::pair<size_t, bool>> at;   // offset -> bytes, fixed
        for (int o = 0; o < int(map.size()); o++) {
            for (int p = 0; p < int(map[size_t(o)].pieces.size()); p++) {
                const Piece & piece = map[size_t(o)].pieces[size_t(p)];
                ids[{o, p}]         = id;
                at[piece.offset]    = {piece.bytes, map[size_t(o)].fixed};
                std::fill_n(memory.begin() + long(piece.offset), piece.bytes, id++);
            }
        }
        // Each stretch of neighbours that could be moved to its beginning.
        std::optional<size_t> fewest;
        for (size_t begin = 0; begin < arena; begin++) {
            if (memory[begin] >= 0 && !at.count(begin)) continue;
            size_t free = 0, moved = 0, gap_before = 0;
            for (size_t i = begin; i < arena;) {
                const auto piece = at.find(i);
                if (piece == at.end()) {
                    free++, i++, gap_before = 1;
                    if (free >= gap && (!fewest || moved < *fewest)) fewest = moved;
                    continue;
                }
                if (piece->second.second) break;
                moved += gap_before ? piece->second.first : 0;
                i += piece->second.first;
            }
        }
        const auto before = map;
        const auto moves  = make_gap(map, arena, gap);
        REQUIRE(moves.has_value() == fewest.has_value());
        if (!moves) continue;
        size_t moved = 0;
        for (const Move & m : *moves) {
            REQUIRE(m.to < m.from);
            REQUIRE(!map[size_t(m.occupant)].fixed);
            for (size_t i = 0; i < m.bytes; i++) memory[m.to + i] = memory[m.from + i];
            map[size_t(m.occupant)].pieces[size_t(m.piece)].offset = m.to;
            moved += m.bytes;
        }
        CHECK(moved == *fewest);
        for (const auto & [where, value] : ids) {
            const Piece & piece = map[size_t(where.first)].pieces[size_t(where.second)];
            for (size_t i = 0; i < piece.bytes; i++) REQUIRE(memory[piece.offset + i] == value);
        }
        REQUIRE(place(map, arena, {gap}, never_needed).has_value());
        n_made += moved > 0;
        n_fixed += moved > 0 && round % 2;
    }
    CHECK(n_made > 500);
    CHECK(n_fixed > 100);
}
