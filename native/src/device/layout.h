// How ggml's structures begin (ggml-backend-impl.h of the pinned version), which no installed header says.
#pragma once

#include <ggml-backend.h>

namespace agentmux {

using MakeBackend     = ggml_backend_t (*)(ggml_backend_dev_t, const char *);
using FreeBackend     = void (*)(ggml_backend_t);
using ComputeGraph    = ggml_status (*)(ggml_backend_t, ggml_cgraph *);
using OptimizeGraph   = void (*)(ggml_backend_t, ggml_cgraph *, void * params);

struct DeviceHead {
    const void * get_name, * get_description, * get_memory, * get_type, * get_props;
    MakeBackend  init_backend;
};

struct BackendHead {
    const void *  guid, * get_name;
    FreeBackend   free;
    const void *  tensor_functions[5], * synchronize, * plan_functions[4];
    ComputeGraph  graph_compute;
    const void *  event_functions[2];
    OptimizeGraph graph_optimize;
};

inline DeviceHead *  head_of(ggml_backend_dev_t device) { return reinterpret_cast<DeviceHead *>(device); }
inline BackendHead * head_of(ggml_backend_t backend) { return reinterpret_cast<BackendHead *>(backend); }

// The library that a function is in; null where it is in none.
const void * library_of(const void * function);

// Functions of one library, where functions are expected.
bool looks_right(const DeviceHead & head);
bool looks_right(const BackendHead & head);

}  // namespace agentmux
