#include <doctest/doctest.h>

#include "base/helpers.h"

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

using namespace agentmux;

TEST_CASE("each piece of work is done once, however many helpers there are") {
    for (const auto & [n_threads, alert] : {std::pair(0, false), {1, false}, {3, false}, {1, true}, {3, true}}) {
        Helpers helpers(n_threads, alert);
        for (int round = 0; round < 200; round++) {
            const size_t                  n = size_t(round % 9);
            std::vector<std::atomic<int>> done(n);
            helpers.each(n, [&](size_t i) { done[i]++; });
            for (const auto & times : done) CHECK(times == 1);
        }
    }
}

TEST_CASE("alert helpers do each piece once whether jobs come when they are due, early, late or no more") {
    std::mt19937 random(5);
    for (const int n_threads : {1, 3}) {
        Helpers helpers(n_threads, true);
        for (int round = 0; round < 400; round++) {
            std::vector<int> done(2 + random() % 6);   // plain: each() is what makes them visible here
            helpers.each(done.size(), [&](size_t i) { done[i]++; });
            for (const int times : done) REQUIRE(times == 1);
            const int pause_us = random() % 8 ? 300 : int(random() % 2000);
            std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
        }
    }
}
