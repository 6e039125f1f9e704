// Checks a GGUF file before llama.cpp sees it, because llama.cpp may abort the process over a damaged one.
#pragma once

#include <cstdint>
#include <string>

namespace agentmux {

struct GgufSummary {
    std::string architecture;
    uint64_t    file_bytes = 0;
    uint64_t    n_tensors  = 0;
};

// Reads the header only. Throws Error: model_not_found (no such file, a directory), model_corrupt (naming file, field and
// value), model_unsupported (another version, a split file, no tensors).
GgufSummary check_gguf(const std::string & path);

}  // namespace agentmux
