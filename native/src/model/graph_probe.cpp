#include "model/graph_probe.h"

#include "base/error.h"
#include "base/log.h"
#include "device/kept_backend.h"

#include <ggml-backend.h>
#include <llama-cpp.h>

#include <map>

namespace agentmux {

namespace {

constexpr size_t small_bytes = 1 << 20;

struct Probe {
    ggml_backend_dev_t                   device = nullptr;
    std::vector<SeenWeight>              seen;
    std::map<const ggml_tensor *, size_t> index;   // weight -> in `seen`
    std::map<const ggml_tensor *, int>   last_use;   // result -> the last node that reads it, or the one that computes it
    std::vector<const ggml_tensor *>     results;    // [node]
    std::map<size_t, int>                first_use;  // in `seen` -> node
    int64_t                              n_vocab = 0;
    bool                                 scores  = false;   // some node has a value for each token of the vocabulary
};

void note(Probe & probe, ggml_tensor * weight, const ggml_tensor * node, int operand, bool direct) {
    const auto [found, added] = probe.index.emplace(weight, probe.seen.size());
    if (added) {
        probe.first_use[probe.seen.size()] = int(probe.results.size());
        probe.seen.push_back({weight});
    }
    SeenWeight & w     = probe.seen[found->second];
    const bool   first = operand == 0 && direct;
    w.only_matmul      = w.only_matmul && first && (node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_MUL_MAT_ID);
    w.supported        = w.supported && ggml_backend_dev_supports_op(probe.device, node);
    w.only_lookup      = w.only_lookup && first && node->op == GGML_OP_GET_ROWS;
}

// Asked before each node, and each is computed before the next is asked about. Products with large matrices are left
// out, their results set to zero: only which node uses which weight is wanted, and the time should not depend on the
// model's size.
bool on_node(ggml_tensor * node, bool ask, void * user) {
    if (!ask) return true;
    Probe & probe = *static_cast<Probe *>(user);
    probe.scores  = probe.scores || node->ne[0] == probe.n_vocab;
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        for (ggml_tensor * t = node->src[i]; t; t = t->view_src) {
            if (is_weight(t)) note(probe, t, node, i, t == node->src[i]);
        }
        if (const ggml_tensor * t = node->src[i]) {
            const auto read = probe.last_use.find(t->view_src ? t->view_src : t);
            if (read != probe.last_use.end()) read->second = int(probe.results.size());
        }
    }
    if (!node->view_src) probe.last_use[node] = int(probe.results.size());
    probe.results.push_back(node);
    leave_out_large_product(node);
    return true;
}

// For each weight, how many results are computed before its first use and read from there on.
void count_alive(Probe & probe) {
    std::vector<int> alive(probe.results.size() + 1, 0);   // [node], as differences at first
    for (int node = 0; node < int(probe.results.size()); node++) {
        const auto read = probe.last_use.find(probe.results[size_t(node)]);
        if (read == probe.last_use.end() || read->second <= node) continue;
        alive[size_t(node) + 1]++;
        alive[size_t(read->second) + 1 < alive.size() ? size_t(read->second) + 1 : alive.size() - 1]--;
    }
    for (size_t node = 1; node < alive.size(); node++) alive[node] += alive[node - 1];
    for (const auto & [weight, node] : probe.first_use) probe.seen[weight].alive_before = alive[size_t(node)];
}

}  // namespace

void leave_out_large_product(ggml_tensor * node) {
    const bool product = node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_MUL_MAT_ID;
    if (!product || !is_weight(node->src[0]) || ggml_nbytes(node->src[0]) <= small_bytes) return;
    node->op = GGML_OP_NONE;
    ggml_backend_tensor_memset(node, 0, 0, ggml_nbytes(node));
}

bool is_weight(const ggml_tensor * tensor) {
    return tensor->op == GGML_OP_NONE && !tensor->view_src && tensor->buffer &&
           ggml_backend_buffer_get_usage(tensor->buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
}

std::vector<SeenWeight> weights_in_order_of_use(llama_model * model, ggml_backend_dev_t device, KeptBackend & backend, int n_threads) {
    const LogCapture     log;
    Probe                probe;
    probe.device  = device;
    probe.n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_context_params params = llama_context_default_params();
    params.n_ctx                = 32;
    params.n_batch = params.n_ubatch = 2;
    params.n_threads = params.n_threads_batch = n_threads;
    params.offload_kqv = params.op_offload = false;
    params.no_perf                         = true;
    params.cb_eval                         = on_node;
    params.cb_eval_user_data               = &probe;
    const KeptBackend::Lending lending(backend);
    const llama_context_ptr context(llama_init_from_model(model, params));
    if (!context) throw Error(ErrorCode::model_unsupported, "llama.cpp makes no context for this model: " + log.last_error());
    // Encoders; llama.cpp would end the process over the first batch that does not ask for all outputs.
    if (!llama_get_memory(context.get())) throw Error(ErrorCode::model_unsupported, "this model keeps no memory of earlier tokens and generates no text");
    llama_token tokens[2] = {0, 1};
    // One token, as in decoding, and two, as in prefill: some architectures build different graphs.
    for (int n : {1, 2}) {
        probe.last_use.clear();
        probe.results.clear();
        probe.first_use.clear();
        if (llama_decode(context.get(), llama_batch_get_one(tokens, n)) != 0) {
            throw Error(ErrorCode::model_unsupported, "llama.cpp cannot decode with this model: " + log.last_error());
        }
        count_alive(probe);
    }
    if (!probe.scores) throw Error(ErrorCode::model_unsupported, "this model computes no scores of tokens and generates no text");
    return probe.seen;
}

}  // namespace agentmux
