#include "sample/text.h"

#include <algorithm>

namespace agentmux {

size_t incomplete_utf8_bytes(const std::string & text) {
    for (size_t back = 1; back <= std::min<size_t>(3, text.size()); back++) {
        const auto   byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xc0) == 0x80) continue;   // a continuation: look further back
        const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return length > back ? back : 0;
    }
    return 0;
}

namespace {

// The longest end of `text` that a stop string begins with.
size_t possible_stop_bytes(const std::string & text, const std::vector<std::string> & stops) {
    size_t longest = 0;
    for (const std::string & stop : stops) {
        for (size_t n = std::min(stop.size() - 1, text.size()); n > longest; n--) {
            if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = n;
        }
    }
    return longest;
}

}  // namespace

std::string TextAssembler::add(const std::string & piece) {
    if (found_stop) return "";
    held += piece;
    size_t first = std::string::npos;
    for (const std::string & stop : stops) first = std::min(first, held.find(stop));
    if (first != std::string::npos) {
        found_stop        = true;
        std::string shown = held.substr(0, first);
        held.clear();
        return shown;
    }
    const size_t keep  = std::max(incomplete_utf8_bytes(held), possible_stop_bytes(held, stops));
    std::string  shown = held.substr(0, held.size() - keep);
    held.erase(0, shown.size());
    return shown;
}

std::string TextAssembler::finish() {
    std::string rest = found_stop ? "" : held;
    held.clear();
    return rest;
}

}  // namespace agentmux
