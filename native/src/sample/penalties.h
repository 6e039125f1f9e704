// Penalties for tokens that were there before, with llama.cpp's arithmetic; it looks each token of the vocabulary up in
// a table, which takes milliseconds for a large one, while only the tokens of the window can change.
#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <deque>
#include <unordered_map>

namespace agentmux {

struct SamplingParams;

class Penalties {
  public:
    explicit Penalties(const SamplingParams & params);

    bool active() const;
    // The next token of prompt or answer; the oldest falls out of a full window.
    void note(llama_token token);
    // [vocabulary] logits, changed in place.
    void apply(float * logits) const;

  private:
    const int32_t window_tokens;   // -1: all
    const float   repeat, frequency, presence;

    std::deque<llama_token>              recent;
    std::unordered_map<llama_token, int> counts;   // of `recent`
};

}  // namespace agentmux
