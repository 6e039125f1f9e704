// The order in which a batch's tokens go to llama.cpp where each slot has a stretch of the KV cache of its own.
//
// llama.cpp then computes together only what is of slots next to each other, ascending; a gap ends a pass through all
// weights and begins another one. So tokens are put in the order of their slots, and where a slot between two that decode
// has nothing to do, it decodes a token that is taken back afterwards: a column more is cheaper than a pass, unless what
// the slot holds is long.
#pragma once

#include <llama.h>

#include <functional>
#include <optional>
#include <vector>

namespace agentmux {

struct PassToken {
    llama_token token    = 0;
    llama_pos   position = 0;
    int         slot     = 0;
    bool        output   = false;   // logits wanted
};

struct Arrangement {
    std::vector<PassToken> tokens;
    std::vector<size_t>    place_of;   // [token of the batch] its index in `tokens`
    std::vector<size_t>    fillers;    // indices in `tokens` of what has to be taken back
};

// As they are.
Arrangement in_given_order(const std::vector<PassToken> & tokens);

struct GapLimits {
    size_t most_tokens;   // in all
    double pass_tokens;   // tokens of the KV cache that take as long to read as the weights of a pass
    // Where a token could be added to a slot, nothing where it is full.
    std::function<std::optional<llama_pos>(int slot)> free_position;
};

// By slot. Gaps are filled where tokens of two or more slots are computed together anyway: some slot has a single token.
Arrangement by_slot(const std::vector<PassToken> & tokens, const GapLimits & limits);

// Tokens by slot, from the first slot to the last one; 0 where a slot between them has none.
std::vector<int> lengths_by_slot(const std::vector<PassToken> & tokens);

// Graphs that llama.cpp computes one after another for such lengths, at most so many tokens in each.
int graphs_for(std::vector<int> lengths, int batch_tokens);

}  // namespace agentmux
