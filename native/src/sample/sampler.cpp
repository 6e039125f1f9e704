#include "sample/sampler.h"

#include "base/error.h"
#include "sample/logits.h"

#include <algorithm>
#include <cmath>
#include <exception>

namespace agentmux {

namespace {

// Tokens shown to the grammar at first, and by how much more they get while too few are allowed: checking one takes
// about a tenth of a microsecond and more, a whole vocabulary many milliseconds.
constexpr size_t first_block_tokens = 64, block_growth = 16;
// Tokens whose weight together is less than this part of the likeliest one's are not looked for among the rest.
constexpr float negligible_weight = 1e-4f;
// Probabilities below exp of this are 0 as far as typical sampling goes; llama.cpp would take the logarithm of 0.
constexpr float negligible_logprob = -80;

void check(const char * name, double value, double low, double high) {
    if (value >= low && value <= high) return;
    throw Error(ErrorCode::request_invalid, std::string(name) + "=" + std::to_string(value) + " is outside " + std::to_string(low) + " to " + std::to_string(high));
}

const SamplingParams & checked(const SamplingParams & p, int32_t n_vocab) {
    check("temperature", p.temperature, 0, 100);
    check("top_k", p.top_k, 0, INT32_MAX);
    check("typical_p", p.typical_p, 0, 1);
    check("top_p", p.top_p, 0, 1);
    check("min_p", p.min_p, 0, 1);
    check("repeat_penalty", p.repeat_penalty, 0.01f, 100);
    check("frequency_penalty", p.frequency_penalty, -100, 100);
    check("presence_penalty", p.presence_penalty, -100, 100);
    check("repeat_last_n", p.repeat_last_n, -1, INT32_MAX);
    check("seed", p.seed, 0, LLAMA_DEFAULT_SEED - 1);
    for (const auto & [token, bias] : p.logit_bias) {
        if (token < 0 || token >= n_vocab) {
            throw Error(ErrorCode::request_invalid,
                        "logit_bias: token id " + std::to_string(token) + " is outside the vocabulary of " + std::to_string(n_vocab));
        }
        if (bias != -INFINITY) check(("logit_bias of token " + std::to_string(token)).c_str(), bias, -10000, 10000);
    }
    return p;
}

llama_sampler_ptr make_chain(const SamplingParams & p) {
    if (p.temperature == 0) return nullptr;
    llama_sampler_ptr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(chain.get(), sampler); };
    if (p.top_k > 0) add(llama_sampler_init_top_k(p.top_k));
    if (p.typical_p < 1) add(llama_sampler_init_typical(p.typical_p, 1));
    if (p.top_p < 1) add(llama_sampler_init_top_p(p.top_p, 1));
    if (p.min_p > 0) add(llama_sampler_init_min_p(p.min_p, 1));
    add(llama_sampler_init_temp(p.temperature));
    add(llama_sampler_init_dist(p.seed));
    return chain;
}

size_t wanted_tokens(const SamplingParams & p, size_t n_vocab) {
    if (p.temperature == 0) return 1;
    return p.top_k > 0 ? std::min(size_t(p.top_k), n_vocab) : n_vocab;
}

void all_tokens(const float * logits, size_t n_vocab, std::vector<llama_token_data> & found) {
    found.clear();
    for (size_t i = 0; i < n_vocab; i++) {
        if (logits[i] > -INFINITY) found.push_back({llama_token(i), logits[i], 0});
    }
}

bool less_likely(const llama_token_data & a, const llama_token_data & b) { return a.logit < b.logit; }

}  // namespace

std::vector<llama_token> ends_of_generation(const llama_vocab * vocab) {
    std::vector<llama_token> ends;
    for (llama_token t = 0; t < llama_vocab_n_tokens(vocab); t++) {
        if (llama_vocab_is_eog(vocab, t)) ends.push_back(t);
    }
    return ends;
}

Sampler::Sampler(const llama_vocab * vocab, const SamplingParams & p, const GrammarSpec & spec, std::vector<llama_token> banned)
    : params(checked(p, llama_vocab_n_tokens(vocab))), n_vocab(size_t(llama_vocab_n_tokens(vocab))), n_wanted(wanted_tokens(p, n_vocab)), penalties(p),
      chain(make_chain(p)), banned(std::move(banned)) {
    if (!spec.gbnf.empty()) grammar = std::make_unique<Grammar>(vocab, spec);
    else if (!spec.after.empty()) throw Error(ErrorCode::request_invalid, "grammar_after is given without a grammar");
}

void Sampler::begin(const std::vector<llama_token> & prompt) {
    for (const llama_token token : prompt) penalties.note(token);
}

llama_token Sampler::sample(const float * logits, Peak peak) {
    // Banned tokens make no difference then, and no logit need be changed.
    if (needs_peak_only() && std::find(banned.begin(), banned.end(), peak.token) == banned.end()) {
        penalties.note(peak.token);
        return peak.token;
    }
    const float * seen  = adjust(logits);
    llama_token   token = choose(seen, seen == logits ? peak : find_peak(seen, n_vocab));
    try {
        // Checking the one token that would be chosen anyway is far cheaper than showing many to the grammar.
        if (grammar && !grammar->allows(token)) token = choose_allowed(seen);
        if (grammar) grammar->accept(token);
    } catch (const Error &) {
        throw;
    } catch (const std::exception & e) {
        throw Error(ErrorCode::request_invalid, std::string("the grammar cannot go on: ") + e.what());
    }
    penalties.note(token);
    return token;
}

const float * Sampler::adjust(const float * logits) {
    if (params.logit_bias.empty() && banned.empty() && !penalties.active()) return logits;
    adjusted.assign(logits, logits + n_vocab);
    for (const auto & [token, bias] : params.logit_bias) adjusted[size_t(token)] += bias;
    penalties.apply(adjusted.data());
    for (const llama_token token : banned) adjusted[size_t(token)] = -INFINITY;
    const auto is_possible = [](float logit) { return logit != -INFINITY; };
    if (std::none_of(adjusted.begin(), adjusted.end(), is_possible)) throw Error(ErrorCode::request_invalid, "logit_bias leaves no token");
    return adjusted.data();
}

llama_token Sampler::choose(const float * logits, Peak peak) {
    if (!chain) return peak.token;
    if (n_wanted < n_vocab) {
        most_likely(logits, n_vocab, n_wanted, candidates);
    } else {
        all_tokens(logits, n_vocab, candidates);
    }
    return pick(n_wanted < n_vocab);
}

// The same among what the grammar allows. It is shown the likeliest tokens first, and more only while too few fit.
llama_token Sampler::choose_allowed(const float * logits) {
    std::vector<llama_token_data> likeliest, unseen;
    candidates.clear();
    for (size_t n = first_block_tokens; n < n_vocab; n *= block_growth) {
        const size_t n_seen = likeliest.size();
        most_likely(logits, n_vocab, n, likeliest);
        unseen.assign(likeliest.begin() + long(std::min(n_seen, likeliest.size())), likeliest.end());
        grammar->filter(unseen);
        candidates.insert(candidates.end(), unseen.begin(), unseen.end());
        const size_t n_left = likeliest.size() < n ? 0 : n_vocab - n;
        if (is_enough(likeliest.back().logit, n_left)) return pick(true);
    }
    all_tokens(logits, n_vocab, candidates);
    grammar->filter(candidates);
    if (candidates.empty()) throw Error(ErrorCode::request_invalid, "the grammar allows no token here");
    return pick(false);
}

// Whether `candidates`, the allowed ones among those seen, leave out nothing that counts: n_left others, none of them
// likelier than last_logit.
bool Sampler::is_enough(float last_logit, size_t n_left) const {
    if (candidates.empty()) return false;
    if (candidates.size() >= n_wanted) return true;
    const size_t n_missing = std::min(n_wanted - candidates.size(), n_left);
    const float  weight    = std::exp((last_logit - candidates.front().logit) / std::max(1.0f, params.temperature));
    return float(n_missing) * weight < negligible_weight;
}

// One of `candidates`, none of them -inf.
llama_token Sampler::pick(bool sorted) {
    const float largest = sorted ? candidates.front().logit : std::max_element(candidates.begin(), candidates.end(), less_likely)->logit;
    if (!chain) return std::find_if(candidates.begin(), candidates.end(), [&](const auto & t) { return t.logit == largest; })->id;
    // From 0 downwards: then a small temperature makes the others -inf, and nothing infinite that differences would not survive.
    for (llama_token_data & t : candidates) t.logit -= largest;
    if (params.typical_p < 1) std::erase_if(candidates, [](const auto & t) { return t.logit < negligible_logprob; });
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, sorted};
    llama_sampler_apply(chain.get(), &array);
    if (array.selected < 0 || size_t(array.selected) >= array.size) throw Error(ErrorCode::engine, "no token was selected");
    return array.data[array.selected].id;
}

}  // namespace agentmux
