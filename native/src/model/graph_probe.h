// Lists a loaded model's weights by watching llama.cpp compute one token: needs public headers only.
#pragma once

#include <vector>

struct ggml_tensor;
struct ggml_backend_device;
struct llama_model;

namespace agentmux {

class KeptBackend;

struct SeenWeight {
    ggml_tensor * tensor      = nullptr;
    bool          only_matmul = true;   // each use is as the first operand of mul_mat or mul_mat_id, directly
    bool          only_lookup = true;   // each use is as the table of get_rows
    bool          supported   = true;   // the device can compute each of its uses
    int           alive_before = 0;     // results that are computed before its first use and read from there on
};

// Weights in the order of first use. Runs a throw-away context on `backend`, with the weights where
// they are.
// Throws Error(model_unsupported) where llama.cpp cannot make a context or decode, and where the model does
// not generate text: it keeps nothing of earlier tokens, or computes no scores of tokens.
std::vector<SeenWeight> weights_in_order_of_use(llama_model * model, ggml_backend_device * device, KeptBackend & backend, int n_threads);

// For an eval callback that is asked before each node and has each computed by itself: a product with a matrix of more
// than 1 MiB becomes nothing, its result zero.
void leave_out_large_product(ggml_tensor * node);

// Whether a tensor is a weight of a loaded model (and not an activation, a view or part of a KV cache).
bool is_weight(const ggml_tensor * tensor);

}  // namespace agentmux
