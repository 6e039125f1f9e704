// A model larger than the arena: for each pass, does the CPU compute what does not fit where it lies, or is it streamed
// through the arena? Whichever is expected to take less time, from what earlier passes took.
#pragma once

#include "model/units.h"

#include <cstdint>
#include <map>
#include <vector>

namespace agentmux {

enum class Oversize { automatic, stream, host };

class OversizePolicy {
  public:
    explicit OversizePolicy(Oversize fixed) : fixed(fixed) {}

    // stream or host, for a pass of this many tokens. missing_bytes: what does not fit; link_bytes_per_s: seen while
    // uploading, 0 where nothing has been uploaded yet.
    //
    // Streaming costs the same whatever the number of tokens; the CPU's time grows with it at most in proportion. So
    // long passes are streamed and short ones computed, until measured times say otherwise by a tenth or more: a change
    // makes llama.cpp plan its graphs anew.
    Oversize choose(int n_tokens, uint64_t missing_bytes, double link_bytes_per_s) const;
    void     note(Oversize how, int n_tokens, double seconds);

  private:
    double expected_s(Oversize how, int n_tokens, double otherwise) const;

    const Oversize                       fixed;
    std::map<int, double>                host_s, stream_s;   // [tokens] -> seconds of a pass, smoothed
};

// [unit] whether it is left to the CPU: the front, as llama.cpp does it, because the token embeddings are there too, and
// because the last unit, the output matrix, is often the largest.
std::vector<bool> beyond_arena(const std::vector<Unit> & units, size_t arena_bytes);

}  // namespace agentmux
