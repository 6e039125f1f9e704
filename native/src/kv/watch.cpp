#include "kv/watch.h"

// llama_context::get_sched() const. Weak: null where the loaded libllama keeps it to itself.
ggml_backend_sched_t agentmux_scheduler_of(const llama_context * context) __asm__("_ZNK13llama_context9get_schedEv") __attribute__((weak));

namespace agentmux {

bool can_change_callback() { return agentmux_scheduler_of != nullptr; }

void set_callback(llama_context * context, ggml_backend_sched_eval_callback callback, void * user) {
    if (can_change_callback()) ggml_backend_sched_set_eval_callback(agentmux_scheduler_of(context), callback, user);
}

}  // namespace agentmux
