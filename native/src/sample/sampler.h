// Chooses the next token of one turn.
#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <string>
#include <vector>

namespace agentmux {

struct SamplingParams {
    float    temperature    = 0;   // 0: greedy
    int32_t  top_k          = 40;
    float    top_p          = 0.95f;
    float    min_p          = 0.05f;
    float    repeat_penalty = 1;   // over the last 64 tokens
    uint32_t seed           = 0;
};

class Sampler {
  public:
    // grammar: GBNF with the rule `root`, or empty. Throws Error(request_invalid) where it does not parse.
    Sampler(const llama_vocab * vocab, const SamplingParams & params, const std::string & grammar, bool ignore_end);

    // [vocabulary] logits -> token, taken note of for penalties and grammar.
    // Throws Error(request_invalid) where the grammar allows no token.
    llama_token sample(const float * logits);

  private:
    llama_token choose(const float * logits, bool constrained);
    bool        allowed(llama_token token);

    const llama_vocab *           vocab;
    const bool                    ignore_end;
    const bool                    plain_greedy;   // nothing but the largest logit: no candidates needed
    llama_sampler_ptr             chain, grammar;
    std::vector<llama_token_data> candidates;   // [vocabulary]
};

}  // namespace agentmux
