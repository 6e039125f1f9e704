// Blocks of host memory under random use, with little budget, and where nothing can be had.
#include "host/block_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

using namespace agentmux;

namespace {

struct Source {   // of chunks; counts them, and fails when it is told to
    int    n_made  = 0;
    size_t largest = SIZE_MAX;

    BlockPool::Allocate allocate() {
        return [this](size_t bytes) {
            if (bytes > largest) return BufferPtr();
            n_made++;
            return BufferPtr(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), bytes));
        };
    }
};

struct Held {
    BlockPool::Block block;
    uint8_t          fill;

    bool intact() const {
        return std::all_of(block.data(), block.data() + block.size(), [&](uint8_t byte) { return byte == fill; });
    }
};

void use_at_random(HostBudget & budget, uint64_t others, size_t largest_block, int rounds, unsigned seed) {
    Source            source;
    BlockPool         pool(budget, source.allocate());
    std::vector<Held> held;
    std::mt19937      random(seed);
    uint64_t          used = 0;
    for (int round = 0; round < rounds; round++) {
        if (held.size() < 12 && random() % 2) {
            const size_t bytes = random() % largest_block;
            if (auto block = pool.take(bytes)) {
                REQUIRE(block->size() == bytes);
                held.push_back({std::move(*block), uint8_t(random())});
                std::memset(held.back().block.data(), held.back().fill, bytes);
                used += bytes;
            }
        } else if (!held.empty()) {
            const size_t i = random() % held.size();
            REQUIRE(held[i].intact());
            used -= held[i].block.size();
            std::swap(held[i], held.back());
            held.pop_back();
        }
        if (random() % 50 == 0) pool.give_back_unused();
        if (random() % 20 == 0) pool.prepare(random() % largest_block);
        REQUIRE(pool.used_bytes() == used);
        REQUIRE(pool.held_bytes() >= used);
        REQUIRE(budget.used_bytes() == pool.held_bytes() + others);
        if (budget.limit_bytes()) REQUIRE(budget.used_bytes() <= budget.limit_bytes());
    }
    REQUIRE(std::all_of(held.begin(), held.end(), [](const Held & h) { return h.intact(); }));
    held.clear();
    pool.give_back_unused();
    REQUIRE(pool.held_bytes() == 0);
}

}  // namespace

TEST_CASE("random blocks never overlap, and what is held counts, within the budget") {
    for (unsigned seed = 0; seed < 20; seed++) {
        HostBudget roomy(0), tight(20000);
        REQUIRE(tight.reserve(3000));   // weights
        use_at_random(roomy, 0, 9000, 400, seed);
        use_at_random(tight, 3000, 9000, 400, seed);
        CHECK(roomy.used_bytes() == 0);
        CHECK(tight.used_bytes() == 3000);
    }
}

TEST_CASE("what was given back is used again, whole") {
    HostBudget budget(16 << 20);   // in steps of a mebibyte
    Source     source;
    BlockPool  pool(budget, source.allocate());
    {
        const auto a = pool.take(300 << 10), b = pool.take(300 << 10), c = pool.take(300 << 10);
        REQUIRE((a && b && c));
        CHECK(source.n_made == 1);
    }
    for (int i = 0; i < 3; i++) CHECK(pool.take(1 << 20).has_value());
    CHECK(source.n_made == 1);
    CHECK(!pool.prepare(1 << 20));
    CHECK(pool.prepare(2 << 20));
    CHECK(pool.take(2 << 20).has_value());
    CHECK(source.n_made == 2);
}

TEST_CASE("a block that grows time after time leaves no trail of chunks") {
    HostBudget budget(0);
    Source     source;
    BlockPool  pool(budget, source.allocate());
    for (size_t mebibytes = 60; mebibytes < 800; mebibytes += 60) {
        CHECK(pool.take(mebibytes << 20).has_value());
        CHECK(pool.held_bytes() <= (mebibytes + mebibytes / 8 + 64) << 20);
    }
}

TEST_CASE("agents that take turns with one slot need no new memory once each has been away") {
    HostBudget budget(0);
    size_t     n_made = 0;
    BlockPool  pool(budget, [&](size_t bytes) {   // no memory at all: nobody writes there
        return BufferPtr(ggml_backend_cpu_buffer_from_ptr(reinterpret_cast<void *>(++n_made << 32), bytes));
    });
    const size_t turn_bytes = 84 << 20;
    uint64_t     most_used  = 0;
    for (int conversation = 0; conversation < 4; conversation++) {
        const size_t                         made_before = n_made;
        std::map<size_t, BlockPool::Block> away;
        for (size_t turn = 0; turn < 24; turn++) {
            std::optional<BlockPool::Block> back;
            if (const auto found = away.find(turn % 12); found != away.end()) {
                back.emplace(std::move(found->second));
                away.erase(found);
            }
            if (turn >= 3) {   // three models: who had this one's slot
                auto gone = pool.take(turn_bytes * (turn - 3 < 12 ? 1 : 2));
                REQUIRE(gone);
                away.emplace((turn - 3) % 12, std::move(*gone));
            }
            most_used = std::max(most_used, pool.used_bytes());
        }
        CHECK((n_made == made_before) == (conversation > 0));
    }
    CHECK(pool.held_bytes() < most_used / 2 * 3);
}

TEST_CASE("chunks that are too small give way where the budget is short") {
    HostBudget budget(1000);
    Source     source;
    BlockPool  pool(budget, source.allocate());
    { const auto a = pool.take(400), b = pool.take(400); CHECK((a && b)); }
    CHECK(!pool.take(1001));
    CHECK(pool.take(900).has_value());
    CHECK(budget.used_bytes() <= 1000);
}

TEST_CASE("where no memory can be had, there is no block, and nothing is booked") {
    HostBudget budget(0);
    Source     source;
    source.largest = 0;
    BlockPool pool(budget, source.allocate());
    CHECK(!pool.take(100));
    CHECK(!pool.prepare(100));
    CHECK(budget.used_bytes() == 0);
    source.largest = 1000;   // less than a step
    CHECK(pool.take(100).has_value());
    CHECK(pool.held_bytes() <= 1000);
}

TEST_CASE("a device without page-locked memory gets plain memory") {
    const Device  device("cpu");
    const auto    allocate = host_memory_of(device);
    const auto    buffer   = allocate(4096);
    REQUIRE(buffer);
    CHECK(ggml_backend_buffer_get_type(buffer.get()) == ggml_backend_cpu_buffer_type());
}
