#include "device/branches.h"

#include "device/layout.h"

#include <ggml.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

namespace agentmux {

namespace {

struct Hooked {
    std::mutex                           mutex;
    std::map<ggml_backend_t, Branches *> branches;

    Branches & of(ggml_backend_t backend) {
        std::lock_guard lock(mutex);
        return *branches.at(backend);
    }
};

// As long-lived as ggml's devices, which are the process's.
Hooked & hooked() {
    static Hooked * const all = new Hooked;
    return *all;
}

}  // namespace

void Branches::ContextFree::operator()(ggml_context * context) const { ggml_free(context); }

bool Branches::possible(ggml_backend_t backend) {
    const BackendHead & head    = *head_of(backend);
    const void * const  library = library_of(head.get_name);
    return looks_right(head) && library_of(reinterpret_cast<const void *>(head.graph_compute)) == library &&
           library_of(reinterpret_cast<const void *>(head.graph_optimize)) == library;
}

Branches::Branches(ggml_backend_t backend)
    : backend(backend), context(ggml_init({ggml_graph_overhead_custom(1, false) + ggml_tensor_overhead(), nullptr, true})),
      nothing(ggml_new_graph_custom(context.get(), 1, false)), real_optimize(head_of(backend)->graph_optimize),
      real_compute(head_of(backend)->graph_compute) {
    // A backend may look at where the first node would be.
    ggml_graph_add_node(nothing, ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 1));
    ggml_graph_clear(nothing);
    {
        std::lock_guard lock(hooked().mutex);
        hooked().branches[backend] = this;
    }
    head_of(backend)->graph_optimize = optimize_hook;
    head_of(backend)->graph_compute  = compute_hook;
}

Branches::~Branches() {
    head_of(backend)->graph_optimize = real_optimize;
    head_of(backend)->graph_compute  = real_compute;
    std::lock_guard lock(hooked().mutex);
    hooked().branches.erase(backend);
}

void Branches::optimize_hook(ggml_backend_t backend, ggml_cgraph * graph, void * params) { hooked().of(backend).optimize(graph, params); }

ggml_status Branches::compute_hook(ggml_backend_t backend, ggml_cgraph * graph) { return hooked().of(backend).compute(graph); }

void Branches::optimize(ggml_cgraph * graph, void * params) {
    ggml_tensor ** const nodes = ggml_graph_nodes(graph);
    const int            n     = ggml_graph_n_nodes(graph);
    if (allowed) {
        real_optimize(backend, graph, params);
        planned   = nodes;
        n_planned = n;
        return;
    }
    const std::vector<ggml_tensor *> order(nodes, nodes + n);
    real_optimize(backend, graph, params);   // it may have more to say than which branches there are
    std::copy(order.begin(), order.end(), nodes);
    forget();
}

// While it computes or records a graph, ggml puts branches back one after another. A second look would then take the
// graph for another one, and compute it without recording once more.
ggml_status Branches::compute(ggml_cgraph * graph) {
    ggml_tensor ** const nodes = ggml_graph_nodes(graph);
    const int            n     = ggml_graph_n_nodes(graph);
    if (!planned) return real_compute(backend, graph);
    if (nodes != planned || n != n_planned) {
        forget();
        return real_compute(backend, graph);
    }
    const std::vector<ggml_tensor *> order(nodes, nodes + n);
    const ggml_status                status = real_compute(backend, graph);
    std::copy(order.begin(), order.end(), nodes);
    return status;
}

// Planning a graph without nodes makes ggml forget the branches of the one before.
void Branches::forget() {
    real_optimize(backend, nothing, nullptr);
    planned = nullptr;
}

}  // namespace agentmux
