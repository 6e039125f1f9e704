// Turns pieces of tokens into text that may be shown: whole UTF-8 characters, no part of a stop string.
#pragma once

#include <string>
#include <vector>

namespace agentmux {

class TextAssembler {
  public:
    explicit TextAssembler(std::vector<std::string> stops) : stops(std::move(stops)) {}

    // Adds a token's bytes; returns the text that is now certain. After `stopped`, everything is ignored.
    std::string add(const std::string & piece);
    // No more tokens: what was held back.
    std::string finish();
    bool        stopped() const { return found_stop; }

  private:
    std::vector<std::string> stops;
    std::string              held;   // not yet certain
    bool                     found_stop = false;
};

// Bytes at the end of `text` that begin a UTF-8 character and do not complete it.
size_t incomplete_utf8_bytes(const std::string & text);

}  // namespace agentmux
