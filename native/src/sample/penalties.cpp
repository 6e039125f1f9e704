#include "sample/penalties.h"

#include "sample/sampler.h"

namespace agentmux {

Penalties::Penalties(const SamplingParams & p)
    : window_tokens(p.repeat_last_n), repeat(p.repeat_penalty), frequency(p.frequency_penalty), presence(p.presence_penalty) {}

bool Penalties::active() const { return window_tokens != 0 && (repeat != 1 || frequency != 0 || presence != 0); }

void Penalties::note(llama_token token) {
    if (!active()) return;
    counts[token]++;
    if (window_tokens < 0) return;
    recent.push_back(token);
    if (recent.size() <= size_t(window_tokens)) return;
    const auto oldest = counts.find(recent.front());
    recent.pop_front();
    if (--oldest->second == 0) counts.erase(oldest);
}

void Penalties::apply(float * logits) const {
    for (const auto & [token, count] : counts) {
        float & logit = logits[token];
        // Dividing a negative logit would make the token likelier.
        logit = logit <= 0 ? logit * repeat : logit / repeat;
        logit -= float(count) * frequency + presence;
    }
}

}  // namespace agentmux
