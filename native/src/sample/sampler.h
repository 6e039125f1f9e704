// Chooses the next token of one turn.
#pragma once

#include "sample/grammar.h"
#include "sample/logits.h"
#include "sample/penalties.h"

#include <llama-cpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace agentmux {

// agentmux/sampling.py says what each is, and its range.
struct SamplingParams {
    float                    temperature       = 0;
    int32_t                  top_k             = 40;
    float                    typical_p         = 1;
    float                    top_p             = 0.95f;
    float                    min_p             = 0.05f;
    float                    repeat_penalty    = 1;
    float                    frequency_penalty = 0;
    float                    presence_penalty  = 0;
    int32_t                  repeat_last_n     = 64;
    std::map<int32_t, float> logit_bias;
    uint32_t                 seed = 0;
};

// Tokens that end an answer.
std::vector<llama_token> ends_of_generation(const llama_vocab * vocab);

class Sampler {
  public:
    // banned: never chosen. Throws Error(request_invalid) for parameters out of range, for a biased token that the vocabulary lacks, and where
    // the grammar does not parse.
    Sampler(const llama_vocab * vocab, const SamplingParams & params, const GrammarSpec & grammar, std::vector<llama_token> banned);

    // Whether the peak of a row is all that it will look at, but for a row where that is banned.
    bool needs_peak_only() const { return !chain && !grammar && params.logit_bias.empty() && !penalties.active(); }

    // The prompt's tokens, which count for the penalties. Before the first `sample`.
    void begin(const std::vector<llama_token> & prompt);

    // [vocabulary] logits -> token, taken note of for penalties and grammar. `peak`: theirs.
    // Throws Error(request_invalid) where bias or grammar leave no token, Error(engine) where a logit is NaN.
    llama_token sample(const float * logits) { return sample(logits, find_peak(logits, n_vocab)); }
    llama_token sample(const float * logits, Peak peak);

  private:
    const float * adjust(const float * logits);
    llama_token   choose(const float * logits, Peak peak);
    llama_token   choose_allowed(const float * logits);
    bool          is_enough(float last_logit, size_t n_left) const;
    llama_token   pick(bool sorted);

    const SamplingParams          params;
    const size_t                  n_vocab, n_wanted;   // n_wanted: tokens that the chain can use at most
    Penalties                     penalties;
    std::unique_ptr<Grammar>      grammar;
    llama_sampler_ptr             chain;        // null: greedy
    const std::vector<llama_token> banned;
    std::vector<float>            adjusted;     // [vocabulary]; empty until something changes a logit
    std::vector<llama_token_data> candidates;   // those that may be chosen
};

}  // namespace agentmux
