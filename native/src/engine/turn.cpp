#include "engine/turn.h"

#include "base/clock.h"

namespace agentmux {

Turn::Turn(TurnRequest r, std::vector<llama_token> p, Sampler s)
    : request(std::move(r)), prompt(std::move(p)), sampler(std::move(s)), assembler(request.stop), submitted_s(now_s()) {
    stats.prompt_tokens = int(prompt.size());
    sampler.begin(prompt);
}

}  // namespace agentmux
