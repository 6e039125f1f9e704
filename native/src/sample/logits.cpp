#include "sample/logits.h"

#include "base/error.h"

#include <algorithm>
#include <cmath>

namespace agentmux {

namespace {

// Logits compared at once. Independent lanes, because a compiler may not reorder comparisons of floats by itself.
constexpr size_t lanes = 16;
// Logits between two looks at whether the largest has changed.
constexpr size_t stride = 2048;
// Places that are read from at once.
constexpr size_t regions = 4;

bool likelier(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct Extent {
    float    largest = -INFINITY;
    uint32_t has_nan = 0;
};

Extent extent_of_few(const float * logits, size_t n) {
    Extent extent;
    for (size_t i = 0; i < n; i++) {
        extent.largest = std::max(extent.largest, logits[i]);
        extent.has_nan |= uint32_t(logits[i] != logits[i]);
    }
    return extent;
}

// [n] logits of each region, n a multiple of `lanes`. Reading from several places at once is what keeps the memory busy (logits come fresh from
// the device, past the caches), and what keeps one comparison from waiting for the one before.
void extents_of_regions(const float * logits, size_t region, size_t n, Extent * extents) {
    float    largest[regions][lanes];
    uint32_t nan[regions][lanes] = {};
    for (auto & row : largest) std::fill(row, row + lanes, -INFINITY);
    for (size_t at = 0; at < n; at += lanes) {
        for (size_t r = 0; r < regions; r++) {
            for (size_t lane = 0; lane < lanes; lane++) {
                const float x    = logits[r * region + at + lane];
                largest[r][lane] = x > largest[r][lane] ? x : largest[r][lane];
                nan[r][lane] |= uint32_t(x != x);
            }
        }
    }
    for (size_t r = 0; r < regions; r++) {
        extents[r] = {};
        for (size_t lane = 0; lane < lanes; lane++) {
            extents[r].largest = std::max(extents[r].largest, largest[r][lane]);
            extents[r].has_nan |= nan[r][lane];
        }
    }
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

PartPeak peak_of_part(const float * row, size_t begin, size_t end) {
    const float * logits = row + begin;
    const size_t  n      = end - begin;
    const size_t  region = n / regions / lanes * lanes;   // what is left over at the end is looked at by itself
    Extent        best[regions];
    size_t        where[regions] = {};
    for (size_t at = 0; at < region; at += stride) {
        Extent part[regions];
        extents_of_regions(logits + at, region, std::min(stride, region - at), part);
        for (size_t r = 0; r < regions; r++) {
            best[r].has_nan |= part[r].has_nan;
            if (part[r].largest <= best[r].largest) continue;
            best[r].largest = part[r].largest;
            where[r]        = r * region + at;
        }
    }
    Extent all  = extent_of_few(logits + regions * region, n - regions * region);
    size_t from = regions * region;
    for (size_t r = regions; r-- > 0;) {   // the first among equals
        all.has_nan |= best[r].has_nan;
        if (region == 0 || best[r].largest < all.largest) continue;
        all.largest = best[r].largest;
        from        = where[r];
    }
    return {{llama_token(std::find(logits + from, logits + n, all.largest) - row), all.largest}, all.has_nan != 0};
}

Peak join_peaks(std::span<const PartPeak> parts) {
    Peak best{0, -INFINITY};
    for (const PartPeak & part : parts) {
        if (part.has_nan) throw Error(ErrorCode::engine, "the model's logits are not numbers (NaN)");
        if (part.peak.logit > best.logit) best = part.peak;
    }
    if (!std::isfinite(best.logit)) throw Error(ErrorCode::engine, "the model's largest logit is infinite");
    return best;
}

Peak find_peak(const float * logits, size_t n_vocab) {
    const PartPeak whole = peak_of_part(logits, 0, n_vocab);
    return join_peaks({&whole, 1});
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
