// Values that cross the seam; agentmux/engine/base.py holds their Python twins, with the meaning of each field.
#pragma once

#include "kv/oversize.h"
#include "sample/logits.h"
#include "sample/sampler.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace agentmux {

struct EngineConfig {
    std::string device            = "auto";
    uint64_t    device_bytes      = 0;   // 0: as much as the device has, see base.py
    uint64_t    arena_bytes       = 0;   // cap; 0: what the budget leaves
    uint64_t    host_bytes        = 0;   // for page-locked weights and sessions; 0: no limit
    int         contexts          = 0;   // models that may hold a context at once; 0: as the budget allows
    Oversize    oversize          = Oversize::automatic;
    int         threads           = 0;   // 0: the cores this process may use
    uint64_t    link_bytes_per_s  = 0;   // 0: unlimited
    bool        debug_poison      = false;
    bool        debug_hash_logits = false;
    std::string vet;   // program that tries files in a process of its own; empty: files are known to be sound
};

struct LoadSpec {
    std::string model, path;
    int         context_tokens = 0;   // 0: 4096, or what the model was trained on where that is less
    int         slots          = 1;
    int         batch_tokens   = 256;
};

struct Footprint {
    std::string           model, architecture;
    std::vector<uint64_t> unit_bytes;
    uint64_t              min_arena_bytes = 0, static_bytes = 0, context_bytes = 0, kv_bytes_per_token = 0, host_bytes = 0;
    int                   context_tokens = 0, slots = 0, training_context_tokens = 0, vocabulary_tokens = 0;
    bool                  has_chat_template = false;
    std::string           chat_template, bos_text, eos_text;
};

constexpr int max_logprobs = 20;   // as OpenAI's interface has it

struct TurnRequest {
    uint64_t                 turn = 0;
    std::string              model;
    bool                     is_text = true;   // `text`, else `tokens`
    std::string              text;
    std::vector<int32_t>     tokens;
    int                      max_tokens = 512;
    SamplingParams           sampling;
    std::string              grammar, grammar_after;
    std::vector<std::string> stop;
    bool                     ignore_eos = false;
    bool                     show_special = false;   // special tokens, too, have their text in the answer
    std::string              session;   // keeps its KV cache under this name; empty: does not
    std::string              fork;      // a new session begins with a copy of this one's
    int                      logprobs   = -1;   // alternatives reported for each token; -1: nothing is
};

struct TurnStats {
    int      prompt_tokens = 0, generated_tokens = 0, reused_tokens = 0;
    double   engine_wait_s = 0, prefill_s = 0, decode_s = 0, time_to_first_token_s = 0, upload_wait_s = 0;
    uint64_t uploaded_bytes = 0;
    bool     switched       = false;
    uint32_t logits_crc32   = 0;
};

struct Event {
    enum class Kind { started, prefill, text, parked, resumed, finished, failed, loading };
    Kind                          kind;
    uint64_t                      turn = 0;
    uint64_t                      done = 0, total = 0;   // prefill: tokens; loading: bytes
    std::string                   text{};                  // text: the delta; finished: all of it; failed: the message; loading: the model
    std::vector<int32_t>          tokens{};
    std::vector<TokenLogprob>     logprobs{};   // [tokens], or empty unless asked for
    std::string                   reason{};   // finished: stop, length, cancelled; failed: an error code
    TurnStats                     stats{};
    std::map<std::string, double> numbers{};
};

struct ModelStats {
    std::string model, unit_states;
    uint64_t    resident_bytes = 0;
    int         slots_active = 0, slots_waiting = 0, sessions_on_device = 0;
    bool        has_context = false;
};

struct EngineStats {
    std::string             device;
    uint64_t                device_budget_bytes = 0, arena_bytes = 0, arena_used_bytes = 0, device_used_bytes = 0;
    uint64_t                uploaded_bytes = 0, evicted_units = 0, switches = 0, steps = 0, prefetched_bytes = 0, repeated_passes = 0;
    uint64_t                context_bytes = 0, host_weight_bytes = 0, page_locked_bytes = 0, compactions = 0;
    uint64_t                sessions_in_host = 0, session_host_bytes = 0, session_memory_bytes = 0, session_hits = 0, session_tokens_reused = 0;
    uint64_t                session_bytes_saved = 0, session_bytes_restored = 0, sessions_dropped = 0;
    double                  upload_wait_s = 0, upload_bytes_per_s = 0, step_s = 0;
    std::vector<ModelStats> models;
};

}  // namespace agentmux
