#include "sample/sampler.h"

#include "base/error.h"
#include "base/log.h"

#include <algorithm>
#include <cmath>
#include <exception>

namespace agentmux {

namespace {

constexpr int32_t penalty_window_tokens = 64;

// A damaged or unstable model computes NaN; going on would put out one token for ever.
void require_number(float logit) {
    if (std::isnan(logit)) throw Error(ErrorCode::engine, "the model's logits are not numbers (NaN)");
}

llama_sampler_ptr make_chain(const SamplingParams & p, int32_t n_vocab) {
    llama_sampler_ptr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(chain.get(), sampler); };
    if (p.repeat_penalty != 1) add(llama_sampler_init_penalties(n_vocab, penalty_window_tokens, p.repeat_penalty, 0, 0));
    if (p.temperature <= 0) {
        add(llama_sampler_init_greedy());
        return chain;
    }
    if (p.top_k > 0) add(llama_sampler_init_top_k(p.top_k));
    if (p.top_p < 1) add(llama_sampler_init_top_p(p.top_p, 1));
    if (p.min_p > 0) add(llama_sampler_init_min_p(p.min_p, 1));
    add(llama_sampler_init_temp(p.temperature));
    add(llama_sampler_init_dist(p.seed));
    return chain;
}

}  // namespace

Sampler::Sampler(const llama_vocab * vocab, const SamplingParams & params, const std::string & gbnf, bool ignore_end)
    : vocab(vocab), ignore_end(ignore_end), plain_greedy(params.temperature <= 0 && params.repeat_penalty == 1 && gbnf.empty() && !ignore_end),
      chain(make_chain(params, llama_vocab_n_tokens(vocab))), candidates(size_t(llama_vocab_n_tokens(vocab))) {
    if (gbnf.empty()) return;
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) throw Error(ErrorCode::request_invalid, "a grammar needs a model with a vocabulary");
    const LogCapture log;
    grammar.reset(llama_sampler_init_grammar(vocab, gbnf.c_str(), "root"));
    if (!grammar) throw Error(ErrorCode::request_invalid, "the grammar does not parse: " + log.last_error());
}

llama_token Sampler::sample(const float * logits) {
    if (plain_greedy) {
        const float * best = std::max_element(logits, logits + candidates.size());
        require_number(*best);
        return llama_token(best - logits);
    }
    try {
        // Checking the one token that would be chosen anyway is far cheaper than masking a whole vocabulary.
        llama_token token = choose(logits, false);
        if (grammar && !allowed(token)) token = choose(logits, true);
        if (grammar) llama_sampler_accept(grammar.get(), token);
        llama_sampler_accept(chain.get(), token);
        return token;
    } catch (const Error &) {
        throw;
    } catch (const std::exception & e) {
        throw Error(ErrorCode::request_invalid, std::string("the grammar cannot go on: ") + e.what());
    }
}

llama_token Sampler::choose(const float * logits, bool constrained) {
    for (size_t i = 0; i < candidates.size(); i++) {
        const bool hidden = ignore_end && llama_vocab_is_eog(vocab, llama_token(i));
        candidates[i]     = {llama_token(i), hidden ? -INFINITY : logits[i], 0};
    }
    llama_token_data_array all = {candidates.data(), candidates.size(), -1, false};
    if (constrained) {
        llama_sampler_apply(grammar.get(), &all);
        bool any = false;
        for (const llama_token_data & c : candidates) any = any || c.logit > -INFINITY;
        if (!any) throw Error(ErrorCode::request_invalid, "the grammar allows no token here");
    }
    llama_sampler_apply(chain.get(), &all);
    if (all.selected < 0 || size_t(all.selected) >= all.size) throw Error(ErrorCode::engine, "no token was selected");
    require_number(logits[all.data[all.selected].id]);
    return all.data[all.selected].id;
}

bool Sampler::allowed(llama_token token) {
    llama_token_data       one   = {token, 1, 0};
    llama_token_data_array array = {&one, 1, -1, false};
    llama_sampler_apply(grammar.get(), &array);
    return one.logit > -INFINITY;
}

}  // namespace agentmux
