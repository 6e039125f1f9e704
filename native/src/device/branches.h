// Q, K and V of a single token computed side by side, in recorded graphs.
//
// ggml's CUDA backend can do that (GGML_CUDA_GRAPH_OPT=1, set in device.cpp): where graphs are planned it puts the nodes of
// such branches in turn, so that none of their results takes another's place, and remembers where streams part and meet.
// Three per cent of a decode step. It does not expect that a graph is computed in pieces, as it is where units are waited
// for, nor that contexts share an instance: a piece that ends within branches leaves the rest in another stream, and what
// it remembers of one context's graph outlives that graph. So both its functions are replaced in an instance: branches
// are planned only while they are allowed, and used only where the graph planned last is computed whole.
#pragma once

#include <ggml-backend.h>

#include <memory>

struct ggml_context;

namespace agentmux {

class Branches {
  public:
    // Whether ggml can be asked for branches here: an instance of a backend that plans them, laid out as expected.
    static bool possible(ggml_backend_t backend);

    // Replaces the instance's functions. One thread uses it from here on.
    explicit Branches(ggml_backend_t backend);
    ~Branches();   // puts them back
    Branches(const Branches &)             = delete;
    Branches & operator=(const Branches &) = delete;

    // For graphs that are planned from now on.
    void allow(bool branches) { allowed = branches; }

  private:
    struct ContextFree {
        void operator()(ggml_context * context) const;
    };

    static void        optimize_hook(ggml_backend_t backend, ggml_cgraph * graph, void * params);
    static ggml_status compute_hook(ggml_backend_t backend, ggml_cgraph * graph);
    void               optimize(ggml_cgraph * graph, void * params);
    ggml_status        compute(ggml_cgraph * graph);
    void               forget();

    const ggml_backend_t                       backend;
    bool                                       allowed = false;
    ggml_tensor **                             planned = nullptr;   // nodes of the graph whose branches ggml remembers
    int                                        n_planned = 0;
    std::unique_ptr<ggml_context, ContextFree> context;
    ggml_cgraph *                              nothing;   // a graph without nodes
    void (* const real_optimize)(ggml_backend_t, ggml_cgraph *, void *);
    ggml_status (* const real_compute)(ggml_backend_t, ggml_cgraph *);
};

}  // namespace agentmux
