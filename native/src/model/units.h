// Groups a model's weights into units: what is paged together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct ggml_tensor;
struct ggml_backend_buffer;

namespace agentmux {

// A weight that is paged: where llama.cpp's tensor is, where its bytes are, and what it takes in the arena.
struct Weight {
    ggml_tensor *         tensor      = nullptr;
    const void *          host        = nullptr;   // the permanent copy
    size_t                bytes       = 0;         // payload
    size_t                arena_bytes = 0;         // payload and the backend's padding, aligned
    ggml_backend_buffer * host_buffer = nullptr;   // that the copy lies in: the CPU can compute with it there
    bool                  page_locked = false;     // the device can read the copy directly
    int                   alive_before = 0;        // results of earlier nodes that are still read after its first use begins
};

struct Unit {
    std::vector<Weight> weights;
    size_t              bytes = 0;   // in the arena, contiguous
};

// Weights in the order of first use, cut into units of about one layer: as many as fit into (all - the largest) / layers
// bytes, so that equal layers become equal units and a large output head stays alone. Where room_bytes (0: no limit) is
// too little for the whole model, units are a third of that: the smaller they are, the more of the model can stay there
// while the rest passes through. Where models take turns larger ones are better: each that is missing costs a stop, and
// small ones leave gaps behind.
//
// A pass may have to stop before a unit's first use, and a stop within operations that a backend fuses changes low bits.
// So units are cut only where few results are alive, as between layers and before a block of matrices that read the
// same input: the fewest that leave no stretch much larger than a layer.
std::vector<Unit> group_units(const std::vector<Weight> & weights, int n_layers, uint64_t room_bytes);

size_t total_bytes(const std::vector<Unit> & units);

}  // namespace agentmux
