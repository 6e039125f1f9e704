// The whole engine without Python: two models in an arena for one, turns from several threads, closing in mid-turn.
#include "engine/engine.h"
#include "base/crc32.h"
#include "model/random_model.h"

#include <doctest/doctest.h>
#include <poll.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

using namespace agentmux;

namespace {

std::string model_file(int64_t layers, uint64_t seed) {
    const auto folder = std::filesystem::temp_directory_path();
    const auto path   = folder / ("agentmux-core-test-" + std::to_string(getpid()) + "-" + std::to_string(seed) + ".gguf");
    write_random_model(path.string(), {{"general.architecture", std::string("llama")}, {"tokenizer.ggml.model", std::string("no_vocab")},
        {"llama.vocab_size", int64_t(128)}, {"llama.context_length", int64_t(256)}, {"llama.embedding_length", int64_t(64)},
        {"llama.block_count", layers}, {"llama.feed_forward_length", int64_t(128)}, {"llama.attention.head_count", int64_t(2)},
        {"llama.attention.head_count_kv", int64_t(2)}, {"llama.attention.layer_norm_rms_epsilon", 1e-5}, {"llama.rope.dimension_count", int64_t(32)}}, seed);
    return path.string();
}

TurnRequest request(uint64_t turn, const std::string & model, int max_tokens) {
    TurnRequest r;
    r.turn       = turn;
    r.model      = model;
    r.is_text    = false;
    r.tokens     = {1, 2, 3, 4, 5};
    r.max_tokens = max_tokens;
    r.ignore_eos = true;
    return r;
}

std::map<uint64_t, Event> endings(Engine & engine, size_t n) {
    std::map<uint64_t, Event> ended;
    while (ended.size() < n) {
        pollfd readable = {engine.fileno(), POLLIN, 0};
        REQUIRE(poll(&readable, 1, 60000) == 1);
        for (Event & event : engine.poll()) {
            if (event.kind != Event::Kind::finished && event.kind != Event::Kind::failed) continue;
            REQUIRE(ended.emplace(event.turn, event).second);
        }
    }
    return ended;
}

}  // namespace

TEST_CASE("the checksum is zlib's") {
    CHECK(crc32(0, "123456789", 9) == 0xCBF43926u);
    CHECK(crc32(crc32(0, "1234", 4), "56789", 5) == 0xCBF43926u);
}

TEST_CASE("two models, turns from two threads, cancellation and closing") {
    const std::string path_a = model_file(4, 1), path_b = model_file(3, 2);
    EngineConfig      config;
    config.device       = "cpu";
    config.device_bytes = 300000;
    config.threads      = 2;
    config.debug_poison = true;
    Engine         engine(config);
    const auto     a = engine.load({"a", path_a, 128, 2, 16});
    engine.load({"b", path_b, 128, 1, 16});
    REQUIRE(a.unit_bytes.size() >= 4);
    std::thread other([&] {
        for (uint64_t turn = 100; turn < 110; turn++) engine.submit(request(turn, "b", 8));
    });
    for (uint64_t turn = 0; turn < 10; turn++) {
        engine.submit(request(turn, "a", 8));
        engine.prefetch("b");
        if (turn % 3 == 0) engine.cancel(turn);
        CHECK(engine.stats().models.size() == 2);
    }
    other.join();
    const auto ended = endings(engine, 20);
    std::set<std::vector<int32_t>> answers;
    for (const auto & [turn, event] : ended) {
        REQUIRE(event.kind == Event::Kind::finished);
        if (turn < 100 && event.reason == "length") answers.insert(event.tokens);
    }
    CHECK(answers.size() == 1);   // greedy: whatever happened around it
    for (uint64_t turn = 200; turn < 204; turn++) engine.submit(request(turn, "a", 100));
    engine.close();
    size_t n = 0;
    for (const Event & event : engine.poll()) n += event.kind == Event::Kind::finished;
    CHECK(n == 4);
    std::filesystem::remove(path_a);
    std::filesystem::remove(path_b);
}
