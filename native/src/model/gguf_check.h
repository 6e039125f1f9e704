// Checks a GGUF file before llama.cpp sees it, because llama.cpp may end the process over a damaged one.
#pragma once

#include "model/gguf_reader.h"

#include <ggml.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace agentmux {

struct GgufTensor {
    std::string             name;
    int                     part   = 0;   // in GgufSummary::parts
    uint64_t                offset = 0;   // of its first byte in that part's file
    uint64_t                bytes  = 0;
    ggml_type               type   = GGML_TYPE_F32;
    std::array<uint64_t, 4> shape  = {1, 1, 1, 1};   // [dimension, the fastest first] elements
};

struct GgufPart {
    std::string path;
    FileState   state;
};

struct GgufSummary {
    std::string             architecture;
    uint64_t                file_bytes = 0;   // of all parts
    uint64_t                n_tensors  = 0;   // in all parts
    std::vector<GgufPart>   parts;            // one, unless the model is split
    std::vector<GgufTensor> tensors;          // in the order of the files
};

// Reads the headers only, of every part where the model is split; `path` is the first part then. The parts lie beside it
// under the names that llama.cpp gives them; a link of another name is followed.
// Throws Error, naming file, field and value: model_not_found (no such file, no file, not readable, a missing part),
// model_corrupt, model_unsupported (another version or byte order, a later part, something else than a model that
// generates text: a vocabulary, an adapter, a projector, an encoder).
GgufSummary check_gguf(const std::string & path);

// Throws Error config if the model has learnt its positions and has fewer than context_tokens: llama.cpp aborts over the
// first position beyond.
void require_positions(const GgufSummary & summary, int context_tokens);

// Throws Error model_corrupt if a part is no longer the file that was checked. A mapped file that is cut short ends the
// process at the next access (SIGBUS); this keeps the time in which that can go unseen short, but cannot make it zero.
void require_unchanged(const GgufSummary & summary);

}  // namespace agentmux
