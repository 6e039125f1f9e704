#include "device/branches.h"

#include "device/kept_backend.h"
#include "device/layout.h"

#include <doctest/doctest.h>
#include <ggml.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

using namespace agentmux;

namespace {

// A backend that behaves as ggml's CUDA backend does with GGML_CUDA_GRAPH_OPT=1: planning swaps the second node with the
// third and remembers the first; computing puts what it remembers back in order, wherever it finds it.
struct Fake {
    BackendHead                head = {};
    const ggml_tensor *        remembered = nullptr;
    std::vector<ggml_tensor *> computed;      // in the last computation
    bool                       in_branches = false;
    int                        n_planned   = 0;
};

Fake & fake_of(ggml_backend_t backend) { return *reinterpret_cast<Fake *>(backend); }

const char * name_of(ggml_backend_t) { return "fake"; }

void free_fake(ggml_backend_t) {}

void optimize(ggml_backend_t backend, ggml_cgraph * graph, void *) {
    Fake & fake     = fake_of(backend);
    fake.remembered = nullptr;
    fake.n_planned++;
    if (ggml_graph_n_nodes(graph) < 3) return;
    ggml_tensor ** nodes = ggml_graph_nodes(graph);
    std::swap(nodes[1], nodes[2]);
    fake.remembered = nodes[0];
}

ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    Fake &         fake  = fake_of(backend);
    ggml_tensor ** nodes = ggml_graph_nodes(graph);
    const int      n     = ggml_graph_n_nodes(graph);
    fake.in_branches     = fake.remembered != nullptr && std::find(nodes, nodes + n, fake.remembered) != nodes + n;
    if (fake.in_branches) REQUIRE(n >= 3);   // or else it would end within a branch
    fake.computed.assign(nodes, nodes + n);
    if (fake.in_branches) std::swap(nodes[1], nodes[2]);
    return GGML_STATUS_SUCCESS;
}

struct FreeContext {
    void operator()(ggml_context * context) const { ggml_free(context); }
};

struct Graph {
    std::unique_ptr<ggml_context, FreeContext> context{ggml_init({1 << 16, nullptr, true})};
    ggml_cgraph *                              all  = ggml_new_graph_custom(context.get(), 8, false);
    ggml_cgraph *                              part = ggml_new_graph_custom(context.get(), 8, false);
    std::vector<ggml_tensor *>                 order;

    Graph() {
        for (int i = 0; i < 4; i++) order.push_back(ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 1));
        for (ggml_tensor * t : order) ggml_graph_add_node(all, t);
        for (int i = 0; i < 2; i++) ggml_graph_add_node(part, order[size_t(i)]);
    }
    std::vector<ggml_tensor *> now() const { return {ggml_graph_nodes(all), ggml_graph_nodes(all) + ggml_graph_n_nodes(all)}; }
};

struct Setup {
    Fake           fake;
    ggml_backend_t backend = reinterpret_cast<ggml_backend_t>(&fake);

    Setup() {
        fake.head.get_name       = reinterpret_cast<const void *>(name_of);
        fake.head.free           = free_fake;
        fake.head.graph_compute  = compute;
        fake.head.graph_optimize = optimize;
    }
    void plan(Graph & graph) { head_of(backend)->graph_optimize(backend, graph.all, nullptr); }
    bool has_its_own() const { return fake.head.graph_compute == compute && fake.head.graph_optimize == optimize; }
    void run(ggml_cgraph * graph) { REQUIRE(head_of(backend)->graph_compute(backend, graph) == GGML_STATUS_SUCCESS); }
};

}  // namespace

TEST_CASE("branches are planned where they are allowed, and each pass hands over the same order") {
    Setup    setup;
    Graph    graph;
    Branches branches(setup.backend);
    branches.allow(true);
    setup.plan(graph);
    const auto planned = graph.now();
    CHECK(planned != graph.order);
    for (int pass = 0; pass < 3; pass++) {
        setup.run(graph.all);
        CHECK(setup.fake.in_branches);
        CHECK(setup.fake.computed == planned);
        CHECK(graph.now() == planned);
    }
}

TEST_CASE("where branches are not allowed a graph keeps its order, and what was remembered is forgotten") {
    Setup    setup;
    Graph    before, graph;
    Branches branches(setup.backend);
    branches.allow(true);
    setup.plan(before);
    branches.allow(false);
    setup.plan(graph);
    CHECK(setup.fake.n_planned == 3);   // it is asked all the same, and then made to forget
    CHECK(graph.now() == graph.order);
    setup.run(graph.all);
    CHECK(!setup.fake.in_branches);
    setup.run(graph.part);
}

TEST_CASE("a graph computed in pieces, or another one than was planned last, has no branches") {
    Setup    setup;
    Graph    a, b;
    Branches branches(setup.backend);
    branches.allow(true);
    setup.plan(a);
    setup.run(a.part);
    CHECK(!setup.fake.in_branches);
    CHECK(setup.fake.remembered == nullptr);
    setup.plan(a);
    setup.plan(b);
    setup.run(a.all);
    CHECK(!setup.fake.in_branches);
    setup.run(b.all);
    CHECK(!setup.fake.in_branches);   // forgotten with the first: slower, not wrong
    setup.plan(b);
    setup.run(b.all);
    CHECK(setup.fake.in_branches);
}

TEST_CASE("a backend gets its functions back") {
    Setup setup;
    REQUIRE(Branches::possible(setup.backend));
    {
        const Branches branches(setup.backend);
        CHECK(!setup.has_its_own());
    }
    CHECK(setup.has_its_own());
}

TEST_CASE("a backend that plans nothing is left as it is") {
    ggml_backend_dev_t cpu     = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_t     backend = ggml_backend_dev_init(cpu, nullptr);
    CHECK(!Branches::possible(backend));
    ggml_backend_free(backend);
    KeptBackend kept(cpu);
    kept.allow_branches(true);   // nothing opened yet
    const KeptBackend::Lending lending(kept);
    ggml_backend_t             instance = ggml_backend_dev_init(cpu, nullptr);
    kept.allow_branches(true);
    CHECK(kept.users() == 1);
    ggml_backend_free(instance);
}
