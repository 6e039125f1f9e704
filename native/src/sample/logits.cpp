#include "sample/logits.h"

#include "base/error.h"

#include <algorithm>
#include <cmath>

namespace agentmux {

namespace {

// Logits compared at once. Independent lanes, because a compiler may not reorder comparisons of floats by itself.
constexpr size_t lanes = 16;
// Logits between two looks at whether the largest has changed.
constexpr size_t stride = 1024;

bool likelier(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct Extent {
    float    largest = -INFINITY;
    uint32_t has_nan = 0;
};

Extent extent_of(const float * logits, size_t n) {
    float    largest[lanes];
    uint32_t nan[lanes] = {};
    std::fill(largest, largest + lanes, -INFINITY);
    size_t at = 0;
    for (; at + lanes <= n; at += lanes) {
        for (size_t lane = 0; lane < lanes; lane++) {
            const float x = logits[at + lane];
            largest[lane] = x > largest[lane] ? x : largest[lane];
            nan[lane] |= uint32_t(x != x);
        }
    }
    Extent extent;
    for (; at < n; at++) {
        extent.largest = std::max(extent.largest, logits[at]);
        extent.has_nan |= uint32_t(logits[at] != logits[at]);
    }
    for (size_t lane = 0; lane < lanes; lane++) {
        extent.largest = std::max(extent.largest, largest[lane]);
        extent.has_nan |= nan[lane];
    }
    return extent;
}

bool any_above(const float * logits, float bar) {
    uint32_t any = 0;
    for (size_t lane = 0; lane < lanes; lane++) any |= uint32_t(logits[lane] > bar);
    return any != 0;
}

void keep_likeliest(std::vector<llama_token_data> & tokens, size_t n) {
    if (tokens.size() <= n) return;
    std::nth_element(tokens.begin(), tokens.begin() + long(n) - 1, tokens.end(), likelier);
    tokens.resize(n);
}

}  // namespace

Peak find_peak(const float * logits, size_t n_vocab) {
    float    largest = -INFINITY;
    size_t   where   = 0;
    uint32_t has_nan = 0;
    for (size_t at = 0; at < n_vocab; at += stride) {
        const Extent part = extent_of(logits + at, std::min(stride, n_vocab - at));
        has_nan |= part.has_nan;
        if (part.largest <= largest) continue;
        largest = part.largest;
        where   = at;
    }
    if (has_nan) throw Error(ErrorCode::engine, "the model's logits are not numbers (NaN)");
    if (!std::isfinite(largest)) throw Error(ErrorCode::engine, "the model's largest logit is infinite");
    return {llama_token(std::find(logits + where, logits + n_vocab, largest) - logits), largest};
}

void most_likely(const float * logits, size_t n_vocab, size_t n, std::vector<llama_token_data> & found) {
    found.clear();
    if (n == 0) return;
    const size_t room = n + std::max(n, size_t(256));
    float        bar  = -INFINITY;   // what is not above it is not among the n: ids ascend, so equals come too late
    for (size_t at = 0; at < n_vocab; at += lanes) {
        if (at + lanes <= n_vocab && !any_above(logits + at, bar)) continue;
        for (size_t i = at; i < std::min(at + lanes, n_vocab); i++) {
            if (logits[i] > bar) found.push_back({llama_token(i), logits[i], 0});
        }
        if (found.size() < room) continue;
        keep_likeliest(found, n);
        bar = found.back().logit;
    }
    keep_likeliest(found, n);
    std::sort(found.begin(), found.end(), likelier);
}

TokenLogprob token_logprob(const float * logits, size_t n_vocab, llama_token token, size_t n_top) {
    const float largest = find_peak(logits, n_vocab).logit;
    double      sum     = 0;
    for (size_t i = 0; i < n_vocab; i++) sum += double(std::exp(logits[i] - largest));
    const double norm = double(largest) + std::log(sum);
    TokenLogprob result{token, float(double(logits[token]) - norm), {}};
    std::vector<llama_token_data> likeliest;
    most_likely(logits, n_vocab, n_top, likeliest);
    for (const llama_token_data & t : likeliest) result.top.emplace_back(t.id, float(double(t.logit) - norm));
    return result;
}

}  // namespace agentmux
