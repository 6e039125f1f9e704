// Taking the node callback off an open context, and putting it back.
//
// llama.cpp fixes the callback when it makes a context, and a callback costs time even where it always answers no: the
// graph is handed over as a view of itself, which a backend cannot recognise, so that CUDA compares each of its nodes
// with those of the graph that it recorded before, while the device does nothing. The scheduler below has the callback
// as a setting (ggml_backend_sched_set_eval_callback, public); only the way to a context's scheduler is a symbol in no
// installed header. Where a build does not have it, contexts stay watched.
#pragma once

#include <llama-cpp.h>

namespace agentmux {

// Whether node callbacks of open contexts can be changed.
bool can_change_callback();

// From the next pass on `callback` is asked about each node; null: nothing is. Whenever llama.cpp makes a new graph it
// puts back the callback that the context was made with.
void set_callback(llama_context * context, ggml_backend_sched_eval_callback callback, void * user);

}  // namespace agentmux
