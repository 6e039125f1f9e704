#include <doctest/doctest.h>

#include "base/helpers.h"

#include <atomic>

using namespace agentmux;

TEST_CASE("each piece of work is done once, however many helpers there are") {
    for (const int n_threads : {0, 1, 3}) {
        Helpers helpers(n_threads);
        for (int round = 0; round < 200; round++) {
            const size_t                  n = size_t(round % 9);
            std::vector<std::atomic<int>> done(n);
            helpers.each(n, [&](size_t i) { done[i]++; });
            for (const auto & times : done) CHECK(times == 1);
        }
    }
}
