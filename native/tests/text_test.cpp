#include "sample/text.h"

#include <doctest/doctest.h>

#include <random>

using namespace agentmux;

namespace {

bool whole_utf8(const std::string & text) { return incomplete_utf8_bytes(text) == 0; }

}  // namespace

TEST_CASE("text arrives as whole characters and without the stop string, however it is cut into pieces") {
    std::mt19937      random(3);
    const std::string text = "na\xc3\xafve \xe2\x82\xac 5 \xf0\x9f\x90\x8d snake\nEND rest";
    for (int round = 0; round < 5000; round++) {
        const bool    with_stop = round % 2;
        TextAssembler assembler(with_stop ? std::vector<std::string>{"END", "never there"} : std::vector<std::string>{});
        std::string   shown;
        for (size_t at = 0; at < text.size();) {
            const size_t n     = 1 + random() % 5;
            const auto   piece = assembler.add(text.substr(at, n));
            REQUIRE(whole_utf8(piece));
            shown += piece;
            at += n;
        }
        shown += assembler.finish();
        REQUIRE(shown == (with_stop ? text.substr(0, text.find("END")) : text));
        REQUIRE(assembler.stopped() == with_stop);
    }
}

TEST_CASE("what only looks like the beginning of a stop string is shown in the end") {
    TextAssembler assembler({"</end>"});
    CHECK(assembler.add("a </en") == "a ");
    CHECK(assembler.add("d") == "");
    CHECK(assembler.finish() == "</end");
    CHECK(!assembler.stopped());
}

TEST_CASE("a broken character is held back and given out at the end") {
    TextAssembler assembler({});
    CHECK(assembler.add("\xe2\x82") == "");
    CHECK(assembler.finish() == "\xe2\x82");
}
