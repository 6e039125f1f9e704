// A turn on its way through the engine.
#pragma once

#include "engine/types.h"
#include "sample/sampler.h"
#include "sample/text.h"

#include <cstdint>
#include <string>
#include <vector>

namespace agentmux {

struct Turn {
    Turn(TurnRequest request, std::vector<llama_token> prompt, Sampler sampler);

    const TurnRequest              request;
    const std::vector<llama_token> prompt;
    Sampler                        sampler;
    TextAssembler                  assembler;

    int                      cached = 0;      // tokens of the sequence in the KV cache
    bool                     started = false;
    bool                     apart = false;   // it was parked: what it has is its own until it ends
    std::vector<llama_token> generated;
    std::vector<TokenLogprob> logprobs;       // [generated], or empty unless asked for
    size_t                   reported = 0;    // of `generated`, tokens that went up as text
    std::string              text;            // that went up
    TurnStats                stats;
    uint64_t                 uploaded_before = 0;
    double                   submitted_s, started_s = 0;

    // The sequence: the prompt, then what was generated.
    int         size() const { return int(prompt.size() + generated.size()); }
    llama_token at(int i) const { return size_t(i) < prompt.size() ? prompt[size_t(i)] : generated[size_t(i) - prompt.size()]; }
    std::vector<llama_token> cached_tokens() const;
    // One token is left to compute, and it was generated; otherwise part of the prompt is (or, after its KV cache was
    // lost, of all).
    bool decoding() const { return !generated.empty() && cached == size() - 1; }
    // Under which name its KV cache is kept: the session's, or one of its own where there is none or it was parked.
    std::string kv_name() const;
};

}  // namespace agentmux
