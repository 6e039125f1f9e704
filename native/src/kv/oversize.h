// A model larger than the arena: for each pass, does the CPU compute what does not fit where it lies, or is it streamed
// through the arena? Whichever is expected to take less time, from what earlier passes took.
#pragma once

#include "model/units.h"
#include "model/use_plan.h"

#include <cstdint>
#include <map>
#include <vector>

namespace agentmux {

enum class Oversize { automatic, stream, host };

class OversizePolicy {
  public:
    explicit OversizePolicy(Oversize fixed) : fixed(fixed) {}

    // stream or host, for a pass of this many tokens. missing_bytes: what would be uploaded; link_bytes_per_s: seen while
    // uploading, 0 where nothing has been uploaded yet.
    //
    // Streaming costs the same whatever the number of tokens; the CPU's time grows with it at most in proportion. So
    // long passes are streamed and short ones computed, until measured times say otherwise by a tenth or more: a change
    // makes llama.cpp plan its graphs anew.
    Oversize choose(int n_tokens, uint64_t missing_bytes, double link_bytes_per_s);
    // replanned: new graphs were planned in this pass, so it counts only where there is no other.
    void     note(Oversize how, int n_tokens, double seconds, bool replanned = false);

  private:
    struct Seen {
        double seconds = 0;   // of a pass: the least of the first few, because the first ones are slow, then smoothed
        int    passes  = 0;
    };

    double expected_s(Oversize how, int n_tokens, double otherwise) const;

    const Oversize          fixed;
    std::map<int, Oversize> chosen;         // [tokens] -> the last choice
    std::map<int, Seen>     host, stream;   // [tokens]
};

// [unit] whether it is left to the CPU: the front, as llama.cpp does it, because the token embeddings are there too, and
// because the last unit, the output matrix, is often the largest.
std::vector<bool> beyond_arena(const std::vector<Unit> & units, size_t arena_bytes);

// [unit] whether it passes through the arena in each pass, while the others stay in it: spread evenly, so that one is
// uploaded while what lies between it and the one before is computed, and with as few bytes as leave room for the largest
// of them beside all that stay. Small ones leave more room than large ones, but each costs a stop or two: stop_bytes is
// what could cross the link meanwhile. None where the model fits; all where only one fits at a time.
std::vector<bool> passing_units(const std::vector<Unit> & units, size_t arena_bytes, size_t stop_bytes);

// [node] whether to stop before it although nothing need be missing there: a passing unit has just been used for the last
// time in this pass, so the next one can have its place. A unit's first use is where a stop is safe.
std::vector<bool> turnovers(const UsePlan & plan, const std::vector<bool> & passing);

}  // namespace agentmux
