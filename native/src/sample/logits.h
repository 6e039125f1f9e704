// Reads one row of logits without sorting or copying all of it.
#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace agentmux {

struct Peak {
    llama_token token;
    float       logit;
};

// Of a stretch of a row: so that several threads can read one row.
struct PartPeak {
    Peak peak;
    bool has_nan;
};

// logits[begin, end) -> the largest of them, by its index in the row.
PartPeak peak_of_part(const float * logits, size_t begin, size_t end);
// Of the whole row from its parts, in their order. Throws as find_peak.
Peak join_peaks(std::span<const PartPeak> parts);

// [n_vocab] logits -> the largest, the first among equals.
// Throws Error(engine) where one is NaN or none is a finite number: going on would put out one token for ever.
Peak find_peak(const float * logits, size_t n_vocab);

// [n_vocab] logits -> the n likeliest, likeliest first, the smaller id first among equals; fewer where others are -inf.
void most_likely(const float * logits, size_t n_vocab, size_t n, std::vector<llama_token_data> & found);

struct TokenLogprob {
    int32_t                                token   = 0;
    float                                  logprob = 0;   // natural logarithm
    std::vector<std::pair<int32_t, float>> top;           // likeliest first
};

// The token's share of the softmax of [n_vocab] logits, and the n_top likeliest tokens with theirs.
TokenLogprob token_logprob(const float * logits, size_t n_vocab, llama_token token, size_t n_top);

}  // namespace agentmux
