// Real copies into a real arena on the CPU, poison on: what is resident holds its bytes, whatever happened before.
#include "residency/residency.h"

#include <doctest/doctest.h>
#include <ggml.h>

#include <array>
#include <cstring>
#include <random>
#include <set>

using namespace agentmux;

namespace {

struct FakeModel {
    explicit FakeModel(const std::vector<size_t> & unit_bytes, uint8_t first)
        : context(ggml_init({ggml_tensor_overhead() * (unit_bytes.size() + 1), nullptr, true}), ggml_free) {
        for (size_t i = 0; i < unit_bytes.size(); i++) {
            bytes.emplace_back(unit_bytes[i], char(first + i));
            ggml_tensor * t = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, int64_t(unit_bytes[i]));
            units.push_back({{{t, nullptr, unit_bytes[i], unit_bytes[i], nullptr, false, 0}}, unit_bytes[i]});
        }
        for (size_t i = 0; i < units.size(); i++) units[i].weights[0].host = bytes[i].data();
    }

    bool holds_its_bytes(int unit) const {
        return std::memcmp(units[size_t(unit)].weights[0].tensor->data, bytes[size_t(unit)].data(), bytes[size_t(unit)].size()) == 0;
    }

    std::unique_ptr<ggml_context, decltype(&ggml_free)> context;
    std::vector<std::string>                            bytes;
    std::vector<Unit>                                   units;
};

}  // namespace

TEST_CASE("random requests and hints: what is required is there, whole, and nothing overlaps") {
    const Device    device("cpu");
    Residency       residency(device, 0, true);
    const FakeModel a({4096, 8192, 4096, 4096, 12288}, 10), b({8192, 8192, 4096}, 100);
    residency.add(0, a.units);
    residency.add(1, b.units);
    residency.resize(20480);
    std::mt19937 random(5);
    for (int round = 0; round < 3000; round++) {
        const int  running  = int(random() % 2);
        const auto distance = [&](ModelId model, int unit) { return next_use(model == running ? Rank::running : Rank::idle, uint64_t(unit) + 1); };
        const auto & model  = running == 0 ? a : b;
        const int  unit     = int(random() % model.units.size());
        residency.require(running, {unit}, distance);
        REQUIRE(residency.ready(running, unit));
        REQUIRE(model.holds_its_bytes(unit));
        const int other = 1 - running;
        residency.request(other, int(random() % (other == 0 ? a : b).units.size()), distance, latest(Rank::running), true);
        REQUIRE(model.holds_its_bytes(unit));
        REQUIRE(residency.used_bytes() <= residency.arena_bytes());
        if (round % 500 == 499) residency.clear();
    }
    CHECK(residency.uploads().bytes > 0);
    CHECK(residency.evicted_units() > 0);
    CHECK(residency.map_of(0).size() == 5);
}

TEST_CASE("two units of one node fit exactly, whatever lay around") {
    const Device    device("cpu");
    Residency       residency(device, 0, true);
    const FakeModel a({4096, 8192, 4096, 8192}, 1);
    residency.add(0, a.units);
    residency.resize(12288);
    const auto distance = [](ModelId, int unit) { return next_use(Rank::running, uint64_t(unit)); };
    for (const std::vector<int> & node : {std::vector<int>{0, 2}, {3, 0}, {1, 2}, {2, 3}, {0, 1}}) {
        residency.require(0, node, distance);
        for (int unit : node) CHECK(a.holds_its_bytes(unit));
    }
}

TEST_CASE("gaps are closed under real bytes: units of several matrices, sizes that leave no gap large enough") {
    const Device device("cpu");
    Residency    residency(device, 0, true);
    FakeModel    small({1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024}, 1), large({4096, 4096}, 100);
    residency.add(0, small.units);
    residency.add(1, large.units);
    residency.resize(8192);
    std::mt19937 random(9);
    for (int round = 0; round < 300; round++) {
        // Four of the small units are needed soonest: the large one must fit between them.
        std::vector<int> order = {0, 1, 2, 3, 4, 5, 6, 7};
        residency.clear();
        std::shuffle(order.begin(), order.end(), random);
        const std::set<int> needed = {0, 2, 4, 6 + round % 2};
        const auto distance = [&](ModelId model, int unit) {
            return model == 1 ? next_use(Rank::running, 100) : next_use(needed.count(unit) ? Rank::running : Rank::idle, uint64_t(unit) + 1);
        };
        for (int unit : order) residency.require(0, {unit}, distance);
        REQUIRE(residency.map_of(1) == "..");
        const int which = int(random() % 2);
        REQUIRE(residency.request(1, which, distance, next_use(Rank::running, 50), false));
        for (int unit : needed) {
            REQUIRE(residency.ready(0, unit));
            REQUIRE(small.holds_its_bytes(unit));
        }
        residency.require(1, {which}, distance);
        REQUIRE(large.holds_its_bytes(which));
    }
    CHECK(residency.compactions() > 100);
}

TEST_CASE("gaps are joined while units are arriving, and while others wait for their turn to arrive") {
    const Device    device("cpu");
    Residency       residency(device, 60u << 20, true);
    const FakeModel a({20480, 8192, 4096, 12288, 8192, 4096}, 10), b({4096, 16384, 8192, 4096, 12288}, 100);
    residency.add(0, a.units);
    residency.add(1, b.units);
    residency.resize(40960);
    std::mt19937 random(13);
    for (int round = 0; round < 1200; round++) {
        const int    running  = int(random() % 2);
        const auto & model    = running == 0 ? a : b;
        const auto & other    = running == 0 ? b : a;
        const auto   distance = [&](ModelId m, int unit) { return next_use(m == running ? Rank::running : Rank::hinted, uint64_t(unit) + 1); };
        const auto   joining  = random() % 2 ? Residency::Joining::all : Residency::Joining::needed;
        const int    unit     = int(random() % model.units.size());
        residency.require(running, {unit}, distance, joining);
        REQUIRE(model.holds_its_bytes(unit));
        for (int n = 0; n < 3; n++) {
            const int wanted = int(random() % other.units.size());
            residency.request(1 - running, wanted, distance, distance(1 - running, wanted), random() % 2 == 0, joining);
        }
        REQUIRE(model.holds_its_bytes(unit));
        for (int u = 0; u < int(other.units.size()); u++) {
            if (residency.ready(1 - running, u)) REQUIRE(other.holds_its_bytes(u));
        }
    }
    CHECK(residency.compactions() > 20);
}

TEST_CASE("gaps are joined for a successor without moving the model that runs, or not at all") {
    constexpr size_t page = 4096;
    const Device     device("cpu");
    const FakeModel  running({page, page}, 1), hinted({page, page, 2 * page}, 50), idle({page, page}, 100);
    const auto       distance = [](ModelId m, int unit) { return next_use(std::array{Rank::running, Rank::hinted, Rank::idle}[size_t(m)], uint64_t(unit) + 1); };
    using Order = std::vector<std::pair<ModelId, int>>;
    // Idle units have to go, and what is left between them moves; in the second arena that would be the running model.
    const Order beside = {{0, 0}, {0, 1}, {1, 0}, {2, 0}, {1, 1}, {2, 1}}, between = {{0, 0}, {1, 0}, {2, 0}, {0, 1}, {1, 1}, {2, 1}};
    for (const Order & order : {beside, between}) {
        Residency residency(device, 0, true);
        for (ModelId m = 0; const FakeModel * model : {&running, &hinted, &idle}) residency.add(m++, model->units);
        residency.resize(6 * page);
        for (const auto & [model, unit] : order) residency.require(model, {unit}, distance);
        const uint64_t moves_before = residency.moves(0);
        const bool     found        = residency.request(1, 2, distance, distance(1, 2), true);
        CHECK(found == (order == beside));
        CHECK(residency.moves(0) == moves_before);
        CHECK(residency.map_of(0) == "rr");
        CHECK(residency.map_of(2) == (found ? ".." : "rr"));   // nobody gives way for nothing
        if (found) residency.require(1, {2}, distance);
        for (int unit = 0; unit < (found ? 3 : 2); unit++) CHECK(hinted.holds_its_bytes(unit));
    }
}

TEST_CASE("units that the CPU computes are shown where they lie, and come back") {
    const Device device("cpu");
    Residency    residency(device, 0, true);
    FakeModel    a({4096, 4096, 4096}, 1);
    residency.add(0, a.units);
    residency.resize(8192);
    const auto distance = [](ModelId, int unit) { return next_use(Rank::running, uint64_t(unit) + 1); };
    residency.require(0, {2}, distance);
    residency.compute_on_host(0, {false, false, true});
    CHECK(residency.map_of(0) == "..h");
    CHECK(residency.ready(0, 2));
    CHECK(!residency.complete(0));
    CHECK(a.units[2].weights[0].tensor->data == a.bytes[2].data());
    residency.clear();
    CHECK(a.units[2].weights[0].tensor->data == a.bytes[2].data());
    residency.compute_on_host(0, {false, false, false});
    residency.require(0, {2}, distance);
    CHECK(a.units[2].weights[0].tensor->data != a.bytes[2].data());
    CHECK(a.holds_its_bytes(2));
}

TEST_CASE("a slow link is held to its rate") {
    const Device    device("cpu");
    Residency       residency(device, 10 << 20, false);
    const FakeModel a({1 << 20}, 1);
    residency.add(0, a.units);
    residency.resize(1 << 20);
    CHECK(residency.require(0, {0}, [](ModelId, int) { return next_use(Rank::running, 0); }) >= 0.09);
}
