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

    int                      prefilled = 0;   // prompt tokens in the KV cache
    std::vector<llama_token> generated;
    std::vector<TokenLogprob> logprobs;       // [generated], or empty unless asked for
    size_t                   reported = 0;    // of `generated`, tokens that went up as text
    std::string              text;            // that went up
    TurnStats                stats;
    uint64_t                 uploaded_before = 0;
    double                   submitted_s, started_s = 0, prefilled_s = 0;

    bool decoding() const { return prefilled == int(prompt.size()); }
    // Tokens in the KV cache, or the position of the next one.
    int  position() const { return prefilled + (generated.empty() ? 0 : int(generated.size()) - 1); }
};

}  // namespace agentmux
