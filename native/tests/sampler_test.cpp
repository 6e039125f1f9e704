#include "sample/sampler.h"

#include "base/error.h"
#include "base/log.h"
#include "sample/gbnf_check.h"
#include "sample/logits.h"
#include "tiny_vocab.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

using namespace agentmux;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::mt19937 & random, size_t n, float spread) {
    std::normal_distribution<float> normal(0, spread);
    std::vector<float>              logits(n);
    for (float & logit : logits) logit = normal(random);
    return logits;
}

std::vector<std::string> words(size_t n) {
    std::mt19937             random(11);
    std::vector<std::string> made;
    for (size_t i = 0; i < n; i++) {
        std::string word;
        for (size_t length = 2 + random() % 5; length > 0; length--) word += char('a' + random() % 26);
        made.push_back(word + std::to_string(i));
    }
    return made;
}

ErrorCode code_of(const std::function<void()> & call, const std::string & says) {
    try {
        call();
    } catch (const Error & e) {
        INFO(e.what());
        CHECK(std::string(e.what()).find(says) != std::string::npos);
        return e.code;
    }
    FAIL("no error, where one should say: " << says);
    return ErrorCode::engine;
}

// The same parameters as llama.cpp's own samplers, over all candidates.
llama_sampler_ptr plain_chain(const SamplingParams & p, int32_t n_vocab) {
    llama_sampler_ptr             chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    std::vector<llama_logit_bias> biases;
    for (const auto & [token, bias] : p.logit_bias) biases.push_back({token, bias});
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(chain.get(), sampler); };
    add(llama_sampler_init_logit_bias(n_vocab, int32_t(biases.size()), biases.data()));
    add(llama_sampler_init_penalties(n_vocab, p.repeat_last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty));
    if (p.temperature > 0) {
        add(llama_sampler_init_top_k(p.top_k));
        add(llama_sampler_init_typical(p.typical_p, 1));
        add(llama_sampler_init_top_p(p.top_p, 1));
        add(llama_sampler_init_min_p(p.min_p, 1));
        add(llama_sampler_init_temp(p.temperature));
        add(llama_sampler_init_dist(p.seed));
    } else {
        add(llama_sampler_init_greedy());
    }
    return chain;
}

llama_token plain_choice(llama_sampler * chain, const std::vector<float> & logits) {
    std::vector<llama_token_data> all;
    for (size_t i = 0; i < logits.size(); i++) all.push_back({llama_token(i), logits[i], 0});
    llama_token_data_array array = {all.data(), all.size(), -1, false};
    llama_sampler_apply(chain, &array);
    return array.data[array.selected].id;
}

}  // namespace

TEST_CASE("the peak is the first of the largest, and what is no number is an error wherever it stands") {
    std::mt19937 random(1);
    for (const size_t n : {1u, 15u, 16u, 17u, 63u, 64u, 65u, 1025u, 5000u, 9000u}) {
        for (int round = 0; round < 20; round++) {
            auto logits = random_logits(random, n, 1);
            for (float & logit : logits) logit = std::round(logit * 2);   // many equals
            const auto largest = std::max_element(logits.begin(), logits.end());
            const Peak peak    = find_peak(logits.data(), n);
            CHECK(peak.token == llama_token(largest - logits.begin()));
            CHECK(peak.logit == *largest);
            logits[random() % n] = nan_value;
            CHECK(code_of([&] { find_peak(logits.data(), n); }, "NaN") == ErrorCode::engine);
        }
    }
    const std::vector<float> nothing(40, -infinity), endless = {0, infinity};
    CHECK(code_of([&] { find_peak(nothing.data(), 40); }, "infinite") == ErrorCode::engine);
    CHECK(code_of([&] { find_peak(endless.data(), 2); }, "infinite") == ErrorCode::engine);
}

TEST_CASE("the likeliest tokens are those that a sort would put first") {
    std::mt19937 random(2);
    for (int round = 0; round < 300; round++) {
        const size_t n_vocab = 1 + random() % 3000, n = random() % (n_vocab + 50);
        auto         logits  = random_logits(random, n_vocab, 3);
        for (float & logit : logits) {
            if (round % 2) logit = std::round(logit);
            if (random() % 50 == 0) logit = -infinity;
        }
        if (round % 7 == 0) std::sort(logits.begin(), logits.end());   // each beats the one before
        std::vector<llama_token> order;
        for (size_t i = 0; i < n_vocab; i++) {
            if (logits[i] > -infinity) order.push_back(llama_token(i));
        }
        std::stable_sort(order.begin(), order.end(), [&](llama_token a, llama_token b) { return logits[size_t(a)] > logits[size_t(b)]; });
        order.resize(std::min(order.size(), n));
        std::vector<llama_token_data> found;
        most_likely(logits.data(), n_vocab, n, found);
        std::vector<llama_token> tokens;
        for (const auto & t : found) tokens.push_back(t.id);
        REQUIRE(tokens == order);
    }
}

TEST_CASE("log-probabilities are those of the softmax") {
    const std::vector<float> logits = {1, 3, 2, -infinity};
    const double             sum    = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
    const TokenLogprob       got    = token_logprob(logits.data(), 4, 0, 20);
    CHECK(double(got.logprob) == doctest::Approx(1 - std::log(sum)));
    REQUIRE(got.top.size() == 3);   // what cannot come is not reported
    CHECK(got.top[0].first == 1);
    CHECK(double(got.top[0].second) == doctest::Approx(3 - std::log(sum)));
    CHECK(got.top[2].first == 0);
    CHECK(token_logprob(logits.data(), 4, 0, 0).top.empty());
}

TEST_CASE("tokens are chosen as llama.cpp's own samplers choose them") {
    const TinyVocab vocab(words(900));
    std::mt19937    random(3);
    const auto      one_of = [&](std::vector<float> values) { return values[random() % values.size()]; };
    for (int round = 0; round < 150; round++) {
        SamplingParams p;
        p.temperature       = one_of({0, 0.3f, 1, 2});
        p.top_k             = int32_t(one_of({0, 1, 40, 200, 5000}));
        p.typical_p         = one_of({1, 1, 0.7f});
        p.top_p             = one_of({1, 0.9f, 0.3f});
        p.min_p             = one_of({0, 0.05f, 0.5f});
        p.repeat_penalty    = one_of({1, 1.3f, 0.8f});
        p.frequency_penalty = one_of({0, 0.5f});
        p.presence_penalty  = one_of({0, 0.5f, -1});
        p.repeat_last_n     = int32_t(one_of({0, 3, 64}));
        p.seed              = random();
        // With a token of -inf llama.cpp's typical sampling takes the logarithm of 0, and sorts by what comes of it.
        if (p.typical_p == 1 && random() % 2) p.logit_bias = {{5, 3.0f}, {700, -infinity}, {701, 2.5f}};
        const llama_sampler_ptr  plain = plain_chain(p, int32_t(vocab.size()));
        Sampler                  ours(vocab.vocab, p, {}, {});
        std::vector<llama_token> prompt;
        for (int i = 0; i < 20; i++) prompt.push_back(llama_token(random() % 30));
        ours.begin(prompt);
        for (const llama_token token : prompt) llama_sampler_accept(plain.get(), token);
        for (int step = 0; step < 10; step++) {
            auto logits = random_logits(random, vocab.size(), 2);
            for (size_t i = 0; i < 30; i++) logits[i] += 2;   // some come again
            const llama_token expected = plain_choice(plain.get(), logits);
            llama_sampler_accept(plain.get(), expected);
            REQUIRE(ours.sample(logits.data()) == expected);
        }
    }
}

TEST_CASE("values that no sampler can mean are refused, with their name") {
    const TinyVocab vocab({"a"});
    const auto      refused = [&](const std::string & says, const std::function<void(SamplingParams &)> & set) {
        SamplingParams p;
        set(p);
        CHECK(code_of([&] { Sampler(vocab.vocab, p, {}, {}); }, says) == ErrorCode::request_invalid);
    };
    for (const float bad : {nan_value, infinity, -infinity, -200.0f, 200.0f}) {
        refused("temperature", [&](auto & p) { p.temperature = bad; });
        refused("top_p", [&](auto & p) { p.top_p = bad; });
        refused("min_p", [&](auto & p) { p.min_p = bad; });
        refused("typical_p", [&](auto & p) { p.typical_p = bad; });
        refused("repeat_penalty", [&](auto & p) { p.repeat_penalty = bad; });
        refused("frequency_penalty", [&](auto & p) { p.frequency_penalty = bad; });
        refused("presence_penalty", [&](auto & p) { p.presence_penalty = bad; });
    }
    refused("repeat_penalty", [](auto & p) { p.repeat_penalty = 0; });
    refused("top_k", [](auto & p) { p.top_k = -1; });
    refused("repeat_last_n", [](auto & p) { p.repeat_last_n = -2; });
    refused("seed", [](auto & p) { p.seed = LLAMA_DEFAULT_SEED; });
    refused("logit_bias of token 5", [](auto & p) { p.logit_bias[5] = nan_value; });
    refused("logit_bias of token 5", [](auto & p) { p.logit_bias[5] = infinity; });
    refused("token id 260 is outside the vocabulary of 260", [](auto & p) { p.logit_bias[260] = 1; });
    refused("token id -1", [](auto & p) { p.logit_bias[-1] = 1; });
    CHECK(code_of([&] { Sampler(vocab.vocab, {}, {"", "x"}, {}); }, "without a grammar") == ErrorCode::request_invalid);
}

TEST_CASE("a ban of every token is the request's fault, and the largest window costs nothing beforehand") {
    const TinyVocab    vocab({"a"});
    std::vector<float> logits(vocab.size());
    SamplingParams     p;
    p.repeat_last_n    = INT32_MAX;
    p.presence_penalty = 1;
    CHECK(Sampler(vocab.vocab, p, {}, {}).sample(logits.data()) == 0);
    for (size_t t = 0; t < vocab.size(); t++) p.logit_bias[int32_t(t)] = -infinity;
    CHECK(code_of([&] { Sampler(vocab.vocab, p, {}, {}).sample(logits.data()); }, "leaves no token") == ErrorCode::request_invalid);
}

TEST_CASE("extreme temperatures and logits leave a choice") {
    const TinyVocab vocab(words(100));
    std::mt19937    random(5);
    for (const float temperature : {1e-38f, 1e-6f, 100.0f}) {
        for (const float spread : {1e-6f, 1.0f, 1e4f}) {
            for (const float typical_p : {1.0f, 0.5f}) {
                SamplingParams p;
                p.temperature     = temperature;
                p.typical_p       = typical_p;
                const auto logits = random_logits(random, vocab.size(), spread);
                CHECK(size_t(Sampler(vocab.vocab, p, {}, {}).sample(logits.data())) < vocab.size());
            }
        }
    }
}

TEST_CASE("a row's peak is found in parts as well, wherever it is cut") {
    std::mt19937 random(11);
    for (int round = 0; round < 300; round++) {
        std::vector<float> logits(1 + random() % 9000);
        for (float & logit : logits) logit = float(random() % 50);
        if (round % 10 == 0) logits[random() % logits.size()] = NAN;
        if (round % 10 == 1) std::fill(logits.begin(), logits.end(), -INFINITY);
        const size_t          n_parts = 1 + random() % 5;
        std::vector<PartPeak> parts;
        for (size_t i = 0; i < n_parts; i++) parts.push_back(peak_of_part(logits.data(), logits.size() * i / n_parts, logits.size() * (i + 1) / n_parts));
        if (round % 10 < 2) {
            CHECK(code_of([&] { join_peaks(parts); }, round % 10 ? "infinite" : "NaN") == ErrorCode::engine);
            continue;
        }
        const Peak whole = find_peak(logits.data(), logits.size());
        REQUIRE(join_peaks(parts).token == whole.token);
        REQUIRE(join_peaks(parts).logit == whole.logit);
        REQUIRE(whole.token == llama_token(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
}

TEST_CASE("the end of generation is passed over where it is to be ignored") {
    const TinyVocab    vocab({"a"});
    std::vector<float> logits(vocab.size());
    logits[TinyVocab::end]         = 9;
    logits[TinyVocab::first_piece] = 8;
    CHECK(Sampler(vocab.vocab, {}, {}, {}).sample(logits.data()) == TinyVocab::end);
    CHECK(Sampler(vocab.vocab, {}, {}, ends_of_generation(vocab.vocab)).sample(logits.data()) == TinyVocab::first_piece);
}

TEST_CASE("banned tokens are as if they could not be, whichever token is likeliest") {
    const TinyVocab vocab({"a", "b", "c", "d"});
    std::mt19937    random(3);
    for (int round = 0; round < 500; round++) {
        std::vector<float> logits(vocab.size());
        for (float & logit : logits) logit = float(random() % 5);
        std::vector<llama_token> banned = {llama_token(random() % vocab.size()), llama_token(random() % vocab.size())};
        SamplingParams           p;
        if (round % 2) p.presence_penalty = 1;   // what changes logits takes the long way
        std::vector<float> masked = logits;
        for (const llama_token token : banned) masked[size_t(token)] = -INFINITY;
        REQUIRE(Sampler(vocab.vocab, p, {}, banned).sample(logits.data()) == Sampler(vocab.vocab, p, {}, {}).sample(masked.data()));
    }
}

TEST_CASE("under a grammar the likeliest allowed token comes, however far down it stands") {
    const TinyVocab vocab(words(5000));
    std::mt19937    random(7);
    for (const std::string gbnf : {"root ::= [a-c] [a-z0-9]+", "root ::= [a-z]+ \"77\"", "root ::= \"q\" [0-9]", "root ::= [^a-y] [^x]*"}) {
        for (int round = 0; round < 10; round++) {
            const auto         logits = random_logits(random, vocab.size(), 4);
            Grammar            all(vocab.vocab, {gbnf, ""});
            llama_token        expected = -1;
            for (size_t t = 0; t < vocab.size(); t++) {
                if (all.allows(llama_token(t)) && (expected < 0 || logits[t] > logits[size_t(expected)])) expected = llama_token(t);
            }
            REQUIRE(Sampler(vocab.vocab, {}, {gbnf, ""}, {}).sample(logits.data()) == expected);
            SamplingParams hot;
            hot.temperature = 3;
            hot.seed        = uint32_t(round);
            REQUIRE(all.allows(Sampler(vocab.vocab, hot, {gbnf, ""}, {}).sample(logits.data())));
        }
    }
}

TEST_CASE("under a grammar tokens come as often as their weights among the allowed say") {
    const TinyVocab          vocab(words(3000));
    std::mt19937             random(8);
    const auto               logits = random_logits(random, vocab.size(), 2);
    const std::string        gbnf   = "root ::= \"k\" [a-z0-9]+";
    Grammar                  grammar(vocab.vocab, {gbnf, ""});
    std::vector<double>      weights(vocab.size());
    double                   sum = 0;
    for (size_t t = 0; t < vocab.size(); t++) sum += weights[t] = grammar.allows(llama_token(t)) ? std::exp(double(logits[t])) : 0;
    const int           n = 4000;
    std::vector<double> counts(vocab.size());
    for (int seed = 0; seed < n; seed++) {
        SamplingParams p;
        p.temperature = p.top_p = 1;
        p.top_k                 = 0;
        p.min_p                 = 0;
        p.seed                  = uint32_t(seed);
        counts[size_t(Sampler(vocab.vocab, p, {gbnf, ""}, {}).sample(logits.data()))]++;
    }
    double statistic = 0, rare_counts = 0, rare_expected = 0;
    int    freedom   = 0;
    for (size_t t = 0; t < vocab.size(); t++) {
        const double expected = n * weights[t] / sum;
        if (expected < 10) {
            rare_counts += counts[t];
            rare_expected += expected;
            continue;
        }
        statistic += (counts[t] - expected) * (counts[t] - expected) / expected;
        freedom++;
    }
    statistic += (rare_counts - rare_expected) * (rare_counts - rare_expected) / rare_expected;
    const double limit = freedom * std::pow(1 - 2.0 / (9 * freedom) + 3.72 * std::sqrt(2.0 / (9 * freedom)), 3);
    CHECK(freedom > 20);
    CHECK(statistic < limit);   // chance exceeds it once in 10,000 times
}

TEST_CASE("a grammar behind a marker: what goes past it must fit") {
    const TinyVocab   vocab({"</th", "ink>", "ink>{", "ink>x", "k>\xe2", "{", "x", "}", "</think>", "</think>x", "</think>{}"});
    const auto        piece   = [](int i) { return TinyVocab::first_piece + i; };
    const GrammarSpec spec    = {"root ::= \"{\" \"}\"", "</think>"};
    const auto        allowed = [&](const std::vector<llama_token> & so_far) {
        Grammar grammar(vocab.vocab, spec);
        for (const llama_token token : so_far) {
            REQUIRE(grammar.allows(token));
            grammar.accept(token);
        }
        std::vector<int> pieces;
        for (int i = 0; i < 11; i++) {
            if (grammar.allows(piece(i))) pieces.push_back(i);
        }
        if (grammar.allows(TinyVocab::end)) pieces.push_back(-1);
        return pieces;
    };
    using Pieces = std::vector<int>;
    CHECK(allowed({}) == Pieces{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, -1});              // a whole marker, but not with an x behind it
    CHECK(allowed({piece(0)}) == Pieces{0, 1, 2, 4, 5, 6, 7, 8, 10, -1});         // "ink>x" completes it with an x
    CHECK(allowed({piece(0), piece(1)}) == Pieces{5});
    CHECK(allowed({piece(8)}) == Pieces{5});
    CHECK(allowed({piece(0), piece(2)}) == Pieces{7});                            // its "{" is under the grammar already
    CHECK(allowed({piece(10)}) == Pieces{-1});                                    // all of the answer in one token
    CHECK(allowed({piece(6), piece(0), piece(0), piece(1), piece(5), piece(7)}) == Pieces{-1});
    Grammar cut(vocab.vocab, {"root ::= [^a]+", "k>"});
    CHECK(!cut.allows(piece(4)));   // goes past the marker and ends within a character
}

TEST_CASE("grammars that llama.cpp would never finish, or abort over, are refused") {
    const auto refused = [](const std::string & says, const std::string & gbnf) {
        CHECK(code_of([&] { check_gbnf(gbnf); }, says) == ErrorCode::request_invalid);
    };
    refused("has no rule `root`", "");
    refused("has no rule `x`", "root ::= x");
    refused("at least 5 and at most 3", "root ::= \"a\"{5,3}");
    refused("left-recursive", "root ::= root \"a\" | \"b\"");
    refused("left-recursive", "root ::= e root\ne ::= f\nf ::= \"\"");
    refused("left-recursive", "root ::= (e root \"x\" | \"y\")?\ne ::= f*\nf ::= \"z\"");
    refused("left-recursive", "root ::= \"a\"\nx ::= y\ny ::= [a]* x");
    refused("200 groups", "root ::= " + std::string(5000, '('));
    refused("zero byte", std::string("root ::= \"a\0\"", 13));
    refused("something to repeat", "root ::= \"\"*");
    refused("expected", "root ::= \"a\" ]");
    for (const std::string fine : {"root ::= \"\"", "root ::= ", "root ::= \"a\"{2,} | [^\\]x-z]+ # why\n", "root ::= (\n\"a\" |\n\"b\")\r\n", "root ::= <[5]> !</s> .",
                                   "root ::= (ws)* \"x\" root?\nws ::= sp\nsp ::= \" \"?\n", "root ::= \"\\x41\\u00e9\\U0001F40D\\\"\" [é-ü]{0,3}"}) {
        CHECK_NOTHROW(check_gbnf(fine));
    }
}

TEST_CASE("whatever passes the check is safe with llama.cpp") {
    const TinyVocab                vocab({"ab", "xx"});   // short: each character may multiply what an ambiguous grammar keeps in mind
    std::mt19937                   random(13);
    const std::vector<std::string> parts = {"root", " ::= ", "a", "b", "\n", "\"x\"", "\"\"", "[ab]", "[^a-c]", "(", ")", "|", "*", "+", "?", "{2}", "{0,3}", "{3,1}", "{,2}",
                                            ".", "<[7]>", "!<[9]>", " ", "\\", "root ::= a\na ::= \"x\" b?\nb ::= a", "[]", "[^]", "\xe2", "#c\n"};
    std::vector<float>             logits(vocab.size());
    int                            n_fine = 0;
    for (int round = 0; round < 1500; round++) {
        std::string gbnf = random() % 2 ? "root ::= a b | [x]\na ::= " : "root ::= ";
        for (size_t n = random() % 14; n > 0; n--) gbnf += parts[random() % parts.size()];
        if (gbnf.find("\nb ::=") == std::string::npos) gbnf += "\nb ::= \"k\"? | [a-z] b";
        if (gbnf.find("\na ::=") == std::string::npos) gbnf += "\na ::= b \"7\"";
        try {
            check_gbnf(gbnf);
        } catch (const Error &) { continue; }
        try {
            Sampler sampler(vocab.vocab, {}, {gbnf, ""}, {});
            for (int step = 0; step < 2; step++) sampler.sample(logits.data());
            n_fine++;
        } catch (const Error & e) { CHECK(e.code == ErrorCode::request_invalid); }
    }
    CHECK(n_fine > 20);
}
