#include "engine/turn.h"

#include "base/clock.h"

namespace agentmux {

Turn::Turn(TurnRequest r, std::vector<llama_token> p, Sampler s)
    : request(std::move(r)), prompt(std::move(p)), sampler(std::move(s)), assembler(request.stop), submitted_s(now_s()) {
    stats.prompt_tokens = int(prompt.size());
    sampler.begin(prompt);
}

std::vector<llama_token> Turn::cached_tokens() const {
    std::vector<llama_token> tokens;
    for (int i = 0; i < cached; i++) tokens.push_back(at(i));
    return tokens;
}

std::string Turn::kv_name() const { return request.session.empty() || apart ? '\0' + std::to_string(request.turn) : request.session; }

}  // namespace agentmux
